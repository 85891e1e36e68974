// Strategies of variable_update on a real small net and the plain backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/worker/train/thread_ranks.hpp"
#include "worker/failure.hpp"
#include "worker/input/synthetic.hpp"
#include "worker/train/step.hpp"

namespace rackmark::worker {
namespace {

void train(TrainPlan& plan, GradientExchange& exchange, std::int64_t rank, int steps) {
  const SystemClock clock;
  SyntheticSource input(1, rank, kBatch, kSize, kClasses);
  const TrainingStep step = make_step(plan, input, exchange, always(kSgd), clock);
  for (int i = 0; i < steps; ++i) step();
}

std::vector<std::vector<double>> two_ranks(std::int64_t bucket_bytes, bool overlap) {
  ThreadRanks ranks(2);
  std::vector<std::unique_ptr<TrainPlan>> plans(2);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      const auto communicator = ranks.rank(r);
      plans[r] = make_plan(static_cast<std::int64_t>(r));
      const auto exchange = make_all_reduce(*plans[r], *communicator,
                                            {.bucket_bytes = bucket_bytes, .overlap = overlap});
      train(*plans[r], *exchange, static_cast<std::int64_t>(r), 3);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(parameters(*plans[0]), parameters(*plans[1]));
  return parameters(*plans[0]);
}

TEST(AllReduce, TwoRanksEqualTwoMicroBatchesBitForBit) {
  const SystemClock clock;
  const auto plan = make_plan(0, 2);
  const auto exchange = make_independent(*plan, "all_reduce");
  SyntheticSource first(1, 0, kBatch, kSize, kClasses), second(1, 1, kBatch, kSize, kClasses);
  const TrainingStep step =
      make_micro_batch_step(*plan, {&first, &second}, *exchange, always(kSgd), clock);
  for (int i = 0; i < 3; ++i) step();
  EXPECT_EQ(two_ranks(1 << 20, true), parameters(*plan));
  EXPECT_EQ(two_ranks(64, true), parameters(*plan)) << "many buckets";
  EXPECT_EQ(two_ranks(64, false), parameters(*plan)) << "without overlap";
}

TEST(AllReduce, GradientsAreAveragedNotSummed) {
  // Two ranks with the same data are one rank.
  const auto alone = make_plan();
  const auto plain = make_independent(*alone, "all_reduce");
  train(*alone, *plain, 0, 2);
  ThreadRanks ranks(2);
  std::vector<std::unique_ptr<TrainPlan>> plans(2);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      const auto communicator = ranks.rank(r);
      plans[r] = make_plan();
      const auto exchange = make_all_reduce(*plans[r], *communicator, {});
      train(*plans[r], *exchange, 0, 2);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(parameters(*plans[0]), parameters(*alone));
}

TEST(Buckets, CoverTheBlockInOrderWithASmallLastOne) {
  const auto plan = make_plan();
  for (const std::int64_t bytes : {1, 100, 600, 1 << 20}) {
    const auto buckets = make_buckets(*plan, bytes);
    std::size_t parameters = 0;
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      parameters += buckets[b].parameters.size();
      EXPECT_TRUE(buckets[b].range.count * 4 <= bytes || buckets[b].parameters.size() == 1);
      if (b == 0) continue;
      EXPECT_GE(buckets[b].range.offset, buckets[b - 1].range.offset + buckets[b - 1].range.count);
    }
    EXPECT_EQ(parameters, plan->net().parameters().size());
    if (bytes == 1) {
      EXPECT_EQ(buckets.size(), parameters);
    }
    if (bytes == 1 << 20) {
      EXPECT_EQ(buckets.size(), 1U);
    }
  }
}

TEST(RequireAgreement, NamesTheRankTheHostAndTheDifference) {
  ThreadRanks ranks(3);
  std::vector<std::string> said(3);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] {
      const auto communicator = ranks.rank(r);
      require_agreement(*communicator, {{"engine revision", "abc"}});
      try {
        require_agreement(*communicator,
                          {{"spec", "same"}, {"memory layout", r == 2 ? "odd" : "even"}});
      } catch (const Failure& failure) {
        if (failure.reason == Reason::kLaunchFailed) said[r] = failure.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const std::string& text : said) {
    EXPECT_THAT(text, ::testing::MatchesRegex(
                          "rank 2 on host .+ has another memory layout than rank 0 on host .+: "
                          "odd instead of even"));
  }
}

}  // namespace
}  // namespace rackmark::worker
