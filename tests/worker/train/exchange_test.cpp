// Strategies of variable_update on a real small net and the plain backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "worker/backend/backend.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/collective/gradient_exchange.hpp"
#include "worker/failure.hpp"
#include "worker/input/synthetic.hpp"
#include "worker/train/step.hpp"

namespace rackmark::worker {
namespace {

constexpr int kBatch = 3, kSize = 8, kClasses = 5;
constexpr SgdStep kSgd{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3};
SgdSchedule always(const SgdStep& sgd) {
  return [sgd](std::int64_t) { return sgd; };
}

Net small_net() {
  Net net("small", kSize, kClasses);
  Node x = net.conv2d(net.input(), "conv1",
                      {.out = 6, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1});
  x = net.relu(net.batch_norm(x, "bn1"));
  x = net.conv2d(x, "conv2",
                 {.out = 8, .kernel_h = 3, .kernel_w = 3, .stride = 2, .pad_h = 1, .pad_w = 1});
  x = net.relu(net.batch_norm(x, "bn2"));
  x = net.flatten(net.adaptive_average_pool(x, {.out = 1}));
  net.loss(net.linear(x, "fc", {.out = kClasses}));
  return net;
}

std::unique_ptr<TrainPlan> make_plan() {
  auto plan = load_backend("reference")->compile(small_net(), {.batch = kBatch, .threads = 1});
  for (std::size_t p = 0; p < plan->net().parameters().size(); ++p) {
    plan->write_parameter(static_cast<int>(p), initial_value(plan->net().parameters()[p], 1));
  }
  return plan;
}

std::vector<std::vector<double>> parameters(const TrainPlan& plan) {
  std::vector<std::vector<double>> all;
  for (std::size_t p = 0; p < plan.net().parameters().size(); ++p) {
    all.push_back(plan.read_parameter(static_cast<int>(p)));
  }
  return all;
}

// Ranks as threads of one process.
class ThreadRanks {
 public:
  explicit ThreadRanks(std::size_t count)
      : spans_(count), turn_(static_cast<std::ptrdiff_t>(count)) {}
  std::unique_ptr<Communicator> rank(std::size_t r);

 private:
  class Rank;
  std::vector<std::span<float>> spans_;
  std::vector<float> sum_;
  std::vector<std::string> texts_{spans_.size()};
  std::barrier<> turn_;
};

class ThreadRanks::Rank : public Communicator {
 public:
  Rank(ThreadRanks& all, std::size_t rank) : all_(all), rank_(rank) {}
  std::int64_t rank() const override { return static_cast<std::int64_t>(rank_); }
  std::int64_t size() const override { return static_cast<std::int64_t>(all_.spans_.size()); }
  void barrier() override { all_.turn_.arrive_and_wait(); }
  void all_reduce_sum(std::span<float> values) override {
    all_.spans_[rank_] = values;
    barrier();
    if (rank_ == 0) {
      all_.sum_.assign(values.begin(), values.end());
      for (std::size_t r = 1; r < all_.spans_.size(); ++r) {
        for (std::size_t i = 0; i < values.size(); ++i) all_.sum_[i] += all_.spans_[r][i];
      }
    }
    barrier();
    std::copy(all_.sum_.begin(), all_.sum_.end(), values.begin());
    barrier();
  }
  double all_reduce_max(double value) override { return value; }
  void broadcast(std::span<float>, std::int64_t) override {}
  std::vector<std::string> all_gather(const std::string& text) override {
    all_.texts_[rank_] = text;
    barrier();
    auto texts = all_.texts_;
    barrier();
    return texts;
  }
  void finish() override {}
  void abort(int) override {}

 private:
  ThreadRanks& all_;
  std::size_t rank_;
};

std::unique_ptr<Communicator> ThreadRanks::rank(std::size_t r) {
  return std::make_unique<Rank>(*this, r);
}

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
      plans[r] = make_plan();
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
  const auto plan = make_plan();
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

// The plain backend rounds its update once, from double, so the last bit may differ here; with the
// fast backend the weights are the same bits (tests/mpi).
TEST(ParameterServer, GivesTheWeightsOfPlainSgd) {
  const auto plain_plan = make_plan();
  const auto plain = make_independent(*plain_plan, "all_reduce");
  train(*plain_plan, *plain, 0, 4);
  const auto wanted = parameters(*plain_plan);
  std::vector<std::vector<std::vector<double>>> found;
  for (const std::int64_t shard_bytes : {64, 512, 1 << 20}) {
    const auto plan = make_plan();
    const auto server = make_colocated_server(*plan, shard_bytes);
    train(*plan, *server, 0, 4);
    found.push_back(parameters(*plan));
    EXPECT_EQ(server->label(), "parameter_server (1 worker, colocated server)");
  }
  EXPECT_EQ(found[0], found[1]) << "shards change nothing";
  EXPECT_EQ(found[0], found[2]);
  for (std::size_t p = 0; p < wanted.size(); ++p) {
    for (std::size_t i = 0; i < wanted[p].size(); ++i) {
      ASSERT_NEAR(found[0][p][i], wanted[p][i], 2e-6 * std::max(1.0, std::abs(wanted[p][i])));
    }
  }
}

// One shard, one parameter, numbers that every float holds exactly: any order of operations agrees.
TEST(ParameterServer, FollowsTheFormula) {
  const auto plan = make_plan();
  for (float& weight : plan->parameter_block()) weight = 2;
  const auto server = make_colocated_server(*plan, 1 << 20);
  const auto step = [&](float gradient) {
    for (float& value : plan->gradient_block()) value = gradient;
    server->begin_step({.learning_rate = 0.5, .momentum = 0.25, .weight_decay = 0.125});
    for (std::size_t p = 0; p < plan->net().parameters().size(); ++p)
      server->ready(static_cast<int>(p));
    server->finish_step();
    return plan->parameter_block()[0];
  };
  EXPECT_EQ(step(1), 2 - 0.5F * 1.25F);                             // v = 1 + 0.125 * 2
  EXPECT_EQ(step(1), 1.375F - 0.5F * (0.25F * 1.25F + 1.171875F));  // g = 1 + 0.125 * 1.375
}

TEST(ParameterServer, OwnsItsVariables) {
  // What happens to the worker's copy between steps does not matter: the server's is pulled.
  const auto plan = make_plan();
  const auto server = make_colocated_server(*plan, 256);
  const auto undisturbed = make_plan();
  const auto other_server = make_colocated_server(*undisturbed, 256);
  train(*undisturbed, *other_server, 0, 1);
  const SystemClock clock;
  SyntheticSource input(1, 0, kBatch, kSize, kClasses);
  const InputBatch& batch = input.next();
  plan->forward({batch.images, batch.labels});
  server->begin_step(kSgd);
  plan->backward([&](int p) { server->ready(p); });
  for (float& weight : plan->parameter_block()) weight = 1e6F;
  server->finish_step();
  EXPECT_EQ(parameters(*plan), parameters(*undisturbed));
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
