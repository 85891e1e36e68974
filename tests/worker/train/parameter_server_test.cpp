// The parameter server: its rules without a transport, and whole exchanges between threads.
#include "worker/collective/parameter_server.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <thread>

#include "tests/worker/train/thread_ranks.hpp"
#include "worker/collective/shards.hpp"
#include "worker/collective/variable_server.hpp"
#include "worker/collective/wire.hpp"
#include "worker/input/synthetic.hpp"
#include "worker/train/step.hpp"

namespace rackmark::worker {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

// --- shards

TEST(Shards, CutLargeVariablesJoinSmallOnesAndBalanceServers) {
  const auto plan = make_plan();
  const auto block = static_cast<std::int64_t>(plan->parameter_block().size());
  for (const std::int64_t bytes : {64, 256, 1 << 20}) {
    const auto shards = make_shards(*plan, bytes, 3);
    std::int64_t at = 0;
    std::vector<std::int64_t> load(3);
    for (const Shard& shard : shards) {
      EXPECT_EQ(shard.range.offset, at) << "no gap, no overlap";
      EXPECT_GT(shard.range.count, 0);
      EXPECT_LE(shard.range.count * 4, bytes);
      at += shard.range.count;
      load[static_cast<std::size_t>(shard.server)] += shard.range.count;
    }
    EXPECT_EQ(at, block);
    const auto [least, most] = std::minmax_element(load.begin(), load.end());
    EXPECT_LE((*most - *least) * 4, bytes) << "as even as shards allow";
    const auto again = shards_from_text(shards_to_text(shards));
    ASSERT_EQ(again.size(), shards.size());
    EXPECT_EQ(again.back().range.offset, shards.back().range.offset);
    EXPECT_EQ(again.back().server, shards.back().server);
  }
  EXPECT_EQ(make_shards(*plan, 1 << 20, 1).size(), 1U);
}

// --- rules, with one shard of one number

class Rules : public ::testing::Test {
 protected:
  void open(std::int64_t workers, Consistency consistency, std::int64_t staleness = 0) {
    server_.emplace(
        ServerRules{.workers = workers,
                    .consistency = consistency,
                    .staleness = staleness,
                    .wire = Precision::kFp32,
                    .schedule = always({.learning_rate = 0.5, .momentum = 0.5, .weight_decay = 0}),
                    .now_ns = [this] { return now_; }},
        std::vector<std::int64_t>{1});
    server_->weights(0)[0] = 10;
  }
  struct Got {
    std::int64_t worker, staleness;
    float weight;
    std::int64_t held_ns;
    bool operator==(const Got&) const = default;
  };
  std::vector<Got> push(std::int64_t worker, float gradient) {
    std::memcpy(server_->slot(0, worker).data(), &gradient, sizeof gradient);
    ++now_;
    server_->gradient_arrived(0, worker);
    return answers();
  }
  std::vector<Got> answers() {
    std::vector<Got> all;
    for (const auto& answer : server_->take_answers()) {
      AnswerHeader header;
      Got got{answer.worker, 0, 0, 0};
      std::memcpy(&header, answer.bytes.data(), sizeof header);
      std::memcpy(&got.weight, answer.bytes.data() + sizeof header, sizeof got.weight);
      got.staleness = header.staleness;
      got.held_ns = header.held_ns;
      all.push_back(got);
    }
    return all;
  }
  std::optional<VariableServer> server_;
  std::int64_t now_ = 0;
};

TEST_F(Rules, SyncStepsOnceWithTheMeanAndAnswersAll) {
  open(3, Consistency::kSync);
  EXPECT_TRUE(push(2, 6).empty());
  EXPECT_TRUE(push(0, 1).empty());
  // mean 3: v = 3, w = 10 - 1.5; held since each one's own arrival
  EXPECT_THAT(push(1, 2), ElementsAre(Got{2, 0, 8.5F, 2}, Got{0, 0, 8.5F, 1}, Got{1, 0, 8.5F, 0}));
  EXPECT_EQ(server_->steps_of_all(), 1);
  push(0, 0), push(1, 0);
  EXPECT_EQ(push(2, 0).at(0).weight, 8.5F - 0.5F * 1.5F) << "momentum goes on";
}

TEST_F(Rules, AsyncAnswersEachAtOnceAndSaysHowFarTheSlowestIsBehind) {
  open(2, Consistency::kAsync);
  EXPECT_THAT(push(0, 1), ElementsAre(Got{0, 1, 9.5F, 0}));
  EXPECT_THAT(push(0, 0), ElementsAre(Got{0, 2, 9.25F, 0}));
  EXPECT_THAT(push(1, 0), ElementsAre(Got{1, 0, 9.125F, 0}));
  EXPECT_EQ(server_->steps_of_all(), 1);
  EXPECT_EQ(push(0, 0).at(0).staleness, 2);
  server_->worker_left(1);
  EXPECT_EQ(push(0, 0).at(0).staleness, 0) << "who has left is not waited for";
  EXPECT_FALSE(server_->all_left());
  server_->worker_left(0);
  EXPECT_TRUE(server_->all_left());
}

TEST_F(Rules, BoundedHoldsWhoIsTooFarAhead) {
  open(3, Consistency::kBounded, 2);
  EXPECT_EQ(push(0, 0).at(0).staleness, 1);
  EXPECT_EQ(push(0, 0).at(0).staleness, 2);
  EXPECT_TRUE(push(0, 0).empty()) << "3 steps ahead";
  EXPECT_EQ(push(1, 0).at(0).worker, 1);
  const auto released = push(2, 0);  // now the slowest has done one step
  ASSERT_EQ(released.size(), 2U);
  EXPECT_EQ(released[0], (Got{0, 2, released[1].weight, 2}));
  EXPECT_TRUE(push(0, 0).empty());
  server_->worker_left(1);
  EXPECT_TRUE(answers().empty()) << "rank 2 is still at one step";
  server_->worker_left(2);
  EXPECT_EQ(answers().at(0).worker, 0);
}

TEST_F(Rules, TheLearningRateIsThatOfTheSendersStep) {
  server_.emplace(ServerRules{.workers = 1,
                              .consistency = Consistency::kAsync,
                              .wire = Precision::kFp32,
                              .schedule =
                                  [](std::int64_t step) {
                                    return SgdStep{.learning_rate = step == 0 ? 1.0 : 0.0,
                                                   .momentum = 0,
                                                   .weight_decay = 0};
                                  },
                              .now_ns = [] { return std::int64_t{0}; }},
                  std::vector<std::int64_t>{1});
  EXPECT_EQ(push(0, 1).at(0).weight, -1);
  EXPECT_EQ(push(0, 1).at(0).weight, -1);
}

// --- exchanges between threads

struct Setting {
  std::int64_t workers = 1;
  ParameterServerSpec spec;
  int steps = 4;
  std::vector<int> pause_ms = {};  // by worker, after each step
};

struct Trained {
  std::vector<std::vector<std::vector<double>>> parameters;  // by worker
  std::vector<std::vector<std::int64_t>> staleness;
  ExchangeWaits waits;  // of worker 0
  std::string label;
};

Trained train_with_server(const Setting& setting) {
  const ServerSetup setup{
      .workers = setting.workers, .spec = setting.spec, .schedule = always(kSgd)};
  const bool dedicated = setting.spec.placement == ServerPlacement::kDedicated;
  const std::int64_t servers = dedicated ? setting.spec.servers : 0;
  ThreadRanks ranks(static_cast<std::size_t>(setting.workers + servers));
  Trained result;
  result.parameters.resize(static_cast<std::size_t>(setting.workers));
  result.staleness.resize(result.parameters.size());
  const auto work = [&](std::size_t r) {
    const auto communicator = ranks.rank(r);
    const auto plan = make_plan(static_cast<std::int64_t>(r));
    const auto exchange = make_parameter_server(*plan, *communicator, setup);
    const SystemClock clock;
    SyntheticSource input(1, static_cast<std::int64_t>(r), kBatch, kSize, kClasses);
    const TrainingStep step = make_step(*plan, input, *exchange, always(kSgd), clock);
    for (int i = 0; i < setting.steps; ++i) {
      const StepRecord record = step();
      if (r == 0) result.waits.communication_ms += record.exposed_communication_ms;
      if (r == 0) result.waits.server_ms += record.server_wait_ms;
      if (r < setting.pause_ms.size()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(setting.pause_ms[r]));
      }
    }
    exchange->settle();
    exchange->leave();
    result.parameters[r] = parameters(*plan);
    result.staleness[r] = exchange->staleness();
    if (r == 0) result.label = exchange->label();
  };
  const auto serve = [&](std::size_t r) {
    const auto communicator = ranks.rank(r);
    const auto service = make_variable_service(*communicator, setup);
    while (!service->over()) {
      if (!service->turn()) std::this_thread::yield();
    }
    // One shard cannot be on three servers.
    EXPECT_TRUE(service->steps() == setting.steps || setting.spec.shard_bytes > 64);
  };
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < static_cast<std::size_t>(setting.workers + servers); ++r) {
    const bool works = r < static_cast<std::size_t>(setting.workers);
    threads.emplace_back([&, r, works] { works ? work(r) : serve(r); });
  }
  for (auto& thread : threads) thread.join();
  return result;
}

// The same ranks in one, with the backend's own update.
std::vector<std::vector<double>> micro_batches(std::int64_t ranks, int steps) {
  const SystemClock clock;
  const auto plan = make_plan(0, ranks);
  const auto exchange = make_independent(*plan, "");
  std::vector<std::unique_ptr<SyntheticSource>> sources;
  std::vector<BatchSource*> inputs;
  for (std::int64_t r = 0; r < ranks; ++r) {
    sources.push_back(std::make_unique<SyntheticSource>(1, r, kBatch, kSize, kClasses));
    inputs.push_back(sources.back().get());
  }
  const TrainingStep step = make_micro_batch_step(*plan, inputs, *exchange, always(kSgd), clock);
  for (int i = 0; i < steps; ++i) step();
  return parameters(*plan);
}

// The plain backend rounds its update once, from double, so the last bit may differ here; with the
// fast backend the weights are the same bits (tests/mpi).
void expect_near(const std::vector<std::vector<double>>& found,
                 const std::vector<std::vector<double>>& wanted, double tolerance) {
  for (std::size_t p = 0; p < wanted.size(); ++p) {
    for (std::size_t i = 0; i < wanted[p].size(); ++i) {
      ASSERT_NEAR(found[p][i], wanted[p][i], tolerance * std::max(1.0, std::abs(wanted[p][i])));
    }
  }
}

TEST(ParameterServer, AnyServersAndShardsGiveTheWeightsOfOneRank) {
  for (const std::int64_t workers : {1, 2, 4}) {
    const auto wanted = micro_batches(workers, 4);
    std::vector<std::vector<std::vector<double>>> found;
    for (const std::int64_t servers : {1, 3}) {
      for (const auto placement : {ServerPlacement::kColocated, ServerPlacement::kDedicated}) {
        for (const std::int64_t shard_bytes : {64, 1 << 20}) {
          SCOPED_TRACE(testing::Message() << workers << " workers, " << servers << " servers of "
                                          << shard_bytes << " bytes");
          Setting setting{.workers = workers};
          setting.spec.servers = servers;
          setting.spec.placement = placement;
          setting.spec.shard_bytes = shard_bytes;
          const Trained trained = train_with_server(setting);
          for (const auto& of_worker : trained.parameters) found.push_back(of_worker);
          EXPECT_THAT(trained.staleness, Each(testing::SizeIs(1))) << "sync: never behind";
        }
      }
    }
    EXPECT_THAT(found, Each(found.front())) << "the same bits everywhere";
    expect_near(found.front(), wanted, 2e-6);
  }
}

TEST(ParameterServer, SixteenBitsOnTheWireAreCloseAndEqualOnAllWorkers) {
  const auto wanted = micro_batches(2, 4);
  for (const auto& [wire, tolerance] :
       {std::pair{Precision::kFp16, 2e-3}, std::pair{Precision::kBf16, 1.5e-2}}) {
    Setting setting{.workers = 2};
    setting.spec.wire = wire;
    setting.spec.shard_bytes = 256;
    const Trained trained = train_with_server(setting);
    EXPECT_EQ(trained.parameters[0], trained.parameters[1]);
    expect_near(trained.parameters[0], wanted, tolerance);
    EXPECT_NE(trained.parameters[0], wanted);
  }
}

TEST(ParameterServer, ASlowWorkerShowsInAsyncAndIsBoundedInBounded) {
  Setting setting{.workers = 2, .spec = {}, .steps = 12, .pause_ms = {0, 80}};
  setting.spec.shard_bytes = 256;
  setting.spec.consistency = Consistency::kAsync;
  const Trained free = train_with_server(setting);
  EXPECT_GT(free.staleness[0].size(), 3U) << "the fast one runs ahead";
  setting.spec.consistency = Consistency::kBounded;
  setting.spec.staleness = 2;
  const Trained bounded = train_with_server(setting);
  EXPECT_EQ(bounded.staleness[0].size(), 3U) << "up to 2 steps, and it gets there";
  EXPECT_LE(bounded.staleness[1].size(), 3U);
  EXPECT_GT(bounded.waits.server_ms, 3 * bounded.waits.communication_ms)
      << "the wait for a slow worker is the server's";
  EXPECT_EQ(free.label, "parameter_server (2 workers, colocated server, async)");
  EXPECT_EQ(bounded.label, "parameter_server (2 workers, colocated server, bounded 2)");
}

TEST(ParameterServer, NamesItself) {
  ServerSetup setup;
  EXPECT_EQ(server_label(setup), "parameter_server (1 worker, colocated server)");
  setup.workers = 4;
  setup.spec.servers = 2;
  setup.spec.placement = ServerPlacement::kDedicated;
  setup.spec.wire = Precision::kBf16;
  EXPECT_EQ(server_label(setup), "parameter_server (4 workers, 2 dedicated servers, bf16 wire)");
}

// --- one worker, as the founding command line has it

std::unique_ptr<GradientExchange> server_of_one(TrainPlan& plan, const SgdStep& sgd,
                                                std::int64_t shard_bytes) {
  const auto ranks = make_single_communicator();
  ServerSetup setup{.workers = 1, .spec = {}, .schedule = always(sgd)};
  setup.spec.shard_bytes = shard_bytes;
  return make_parameter_server(plan, *ranks, setup);
}

// One shard, one parameter, numbers that every float holds exactly: any order of operations agrees.
TEST(ParameterServer, FollowsTheFormula) {
  const auto plan = make_plan();
  for (float& weight : plan->parameter_block()) weight = 2;
  const auto server = server_of_one(
      *plan, {.learning_rate = 0.5, .momentum = 0.25, .weight_decay = 0.125}, 1 << 20);
  const auto step = [&](float gradient) {
    server->begin_step({});
    for (float& value : plan->gradient_block()) value = gradient;
    for (std::size_t p = 0; p < plan->net().parameters().size(); ++p)
      server->ready(static_cast<int>(p));
    server->finish_step();
    server->settle();
    return plan->parameter_block()[0];
  };
  EXPECT_EQ(step(1), 2 - 0.5F * 1.25F);                             // v = 1 + 0.125 * 2
  EXPECT_EQ(step(1), 1.375F - 0.5F * (0.25F * 1.25F + 1.171875F));  // g = 1 + 0.125 * 1.375
}

TEST(ParameterServer, OwnsItsVariablesAndWritesThemAfterBackward) {
  const SystemClock clock;
  SyntheticSource input(1, 0, kBatch, kSize, kClasses);
  const InputBatch& batch = input.next();
  std::vector<std::vector<std::vector<double>>> found;
  for (const bool disturbed : {false, true}) {
    const auto plan = make_plan();
    const auto server = server_of_one(*plan, kSgd, 256);
    plan->forward({batch.images, batch.labels});
    server->begin_step(kSgd);
    plan->backward([&](int p) { server->ready(p); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // What happens to the worker's copy meanwhile does not matter: the server's comes back, and not
    // before backward has ended.
    for (float& weight : plan->parameter_block()) {
      if (disturbed) weight = 1e6F;
    }
    server->finish_step();
    server->settle();
    found.push_back(parameters(*plan));
  }
  EXPECT_EQ(found[0], found[1]);
}

// --- 16-bit all-reduce

TEST(SixteenBitMean, IsTheMeanWithTwoRoundingsAndTheSameEverywhere) {
  for (const auto& [wire, unit] :
       {std::pair{Precision::kFp16, 0x1p-11}, {Precision::kBf16, 0x1p-8}}) {
    for (const std::size_t count : {1U, 2U, 7U, 1000U}) {
      ThreadRanks ranks(3);
      std::vector<std::vector<float>> values(3, std::vector<float>(count));
      std::vector<double> mean(count), size(count);
      for (std::size_t r = 0; r < 3; ++r) {
        for (std::size_t i = 0; i < count; ++i) {
          values[r][i] = std::sin(static_cast<float>(1 + i + 1000 * r));
          mean[i] += double{values[r][i]} / 3;
          size[i] += std::abs(double{values[r][i]}) / 3;
        }
      }
      std::vector<std::thread> threads;
      for (std::size_t r = 0; r < 3; ++r) {
        threads.emplace_back([&, r, used = wire] {
          const auto rank = ranks.rank(r);
          SixteenBitMean(*rank, used).mean(values[r]);
        });
      }
      for (auto& thread : threads) thread.join();
      EXPECT_EQ(values[0], values[1]);
      EXPECT_EQ(values[0], values[2]);
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_NEAR(values[0][i], mean[i], 2.1 * unit * size[i]) << i;
      }
    }
  }
}

}  // namespace
}  // namespace rackmark::worker
