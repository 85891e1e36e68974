#include "agent/runs/rank_tracker.hpp"

#include <gtest/gtest.h>

namespace rackmark::agent {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

Json event(const char* type, int rank, Json members = Json::object()) {
  members["type"] = type;
  members["rank"] = rank;
  members["v"] = 1;
  return members;
}

TEST(RankTracker, TheSlowestRankDecidesTheState) {
  RankTracker ranks(2, std::nullopt, 0);
  EXPECT_EQ(ranks.state(), RunState::kStarting);
  ranks.take(event("phase", 0, {{"phase", "measuring"}}), 1);
  EXPECT_EQ(ranks.state(), RunState::kStarting);
  ranks.take(event("phase", 1, {{"phase", "warmup"}}), 1);
  EXPECT_EQ(ranks.state(), RunState::kWarmup);
  ranks.take(event("phase", 1, {{"phase", "measuring"}}), 1);
  EXPECT_EQ(ranks.state(), RunState::kMeasuring);
  ranks.take(event("summary", 0), 1);
  ranks.take(event("phase", 1, {{"phase", "collecting"}}), 1);
  EXPECT_EQ(ranks.state(), RunState::kCollecting);
  EXPECT_FALSE(ranks.all_summaries());
  ranks.take(event("summary", 1), 1);
  EXPECT_TRUE(ranks.all_summaries());
}

// Three hosts with 2 + 2 + 1 workers and two dedicated servers, on the last and on the first.
TEST(RankTracker, KnowsItsOwnRanksOfSeveralHosts) {
  const RankPlace last{{3, 5, 2}, 2, {"a", "b", "c"}};
  ASSERT_EQ(last.count(), 2);
  EXPECT_EQ(last.rank(0), 4);
  EXPECT_EQ(last.rank(1), 6);
  RankTracker ranks(last, std::nullopt, 0);
  for (const int elsewhere : {0, 3, 5, 7}) {
    EXPECT_FALSE(ranks.take(event("phase", elsewhere, {{"phase", "warmup"}}), 1)) << elsewhere;
  }
  EXPECT_TRUE(ranks.take(event("phase", 4, {{"phase", "warmup"}}), 1));
  EXPECT_EQ(ranks.state(), RunState::kStarting);
  EXPECT_TRUE(ranks.take(event("phase", 6, {{"phase", "warmup"}}), 1));
  EXPECT_EQ(ranks.state(), RunState::kWarmup);
  EXPECT_EQ(ranks.silences(2).at(1).rank, 6);
  EXPECT_EQ(name_rank(ranks, 4), "rank 4 (warmup)");
  EXPECT_EQ(name_rank(ranks, 6), "server rank 6 (warmup)");
  EXPECT_EQ(name_rank(ranks, 3), "rank 3 on agent b");
  EXPECT_EQ(name_rank(ranks, 5), "server rank 5 on agent a");
  EXPECT_EQ(name_rank(ranks, 7), "rank 7");
}

TEST(RankTracker, RefusesWhatIsNoEventOfThisRun) {
  RankTracker ranks(2, std::nullopt, 0);
  for (const Json& bad : {Json(3), Json::array(), Json::object(), event("steps", 2),
                          event("steps", -1), event("dance", 0), Json{{"type", 3}, {"rank", 0}},
                          event("steps", 0, {{"ms", "many"}}), Json{{"type", "hello"}}})
    EXPECT_FALSE(ranks.take(bad, 1)) << bad;
  EXPECT_FALSE(ranks.any_hello());
}

TEST(RankTracker, StallNamesTheRankThatStopped) {
  RankTracker ranks(2, std::nullopt, 0);
  for (int rank : {0, 1}) {
    ranks.take(event("hello", rank, {{"host", "alpha"}}), 0);
    ranks.take(event("phase", rank, {{"phase", "measuring"}}), 0);
    ranks.take(event("steps", rank, {{"ms", {100.0, 100.0}}, {"first_step", 0}}), 0);
  }
  ranks.take(event("steps", 0, {{"ms", {100.0}}, {"first_step", 2}}), 30 * kSecond);
  EXPECT_FALSE(ranks.stalled(59 * kSecond));
  const auto stall = ranks.stalled(61 * kSecond);
  ASSERT_TRUE(stall);
  EXPECT_EQ(stall->rank, 1);
  EXPECT_EQ(stall->host, "alpha");
  EXPECT_EQ(stall->phase, "measuring");
  EXPECT_DOUBLE_EQ(stall->limit_s, 60);
}

TEST(RankTracker, LongStepsMoveTheLimit) {
  RankTracker ranks(1, std::nullopt, 0);
  EXPECT_DOUBLE_EQ(ranks.stall_limit_s(), 300);
  ranks.take(event("steps", 0, {{"ms", {9000.0, 10000.0, 11000.0}}}), 0);
  EXPECT_DOUBLE_EQ(ranks.stall_limit_s(), 200);
  EXPECT_DOUBLE_EQ(RankTracker(1, 5.0, 0).stall_limit_s(), 5);
}

TEST(RankTracker, ARankThatIsDoneWaitsForSlowerOnes) {
  RankTracker ranks(2, std::nullopt, 0);
  const auto steps = [&](int rank, std::int64_t at_s) {
    ranks.take(event("steps", rank, {{"ms", {5000.0}}, {"first_step", at_s}}), at_s * kSecond);
  };
  for (int rank : {0, 1}) {
    ranks.take(event("phase", rank, {{"phase", "measuring"}}), 0);
    steps(rank, 5);
  }
  ranks.take(event("phase", 0, {{"phase", "collecting"}}), 500 * kSecond);
  for (std::int64_t at_s = 50; at_s <= 2000; at_s += 50) {
    steps(1, at_s);
    EXPECT_FALSE(ranks.stalled((at_s + 49) * kSecond)) << at_s;
  }
  ASSERT_TRUE(ranks.stalled(2101 * kSecond));
  EXPECT_EQ(ranks.stalled(2101 * kSecond)->rank, 1) << "who holds up the one that waits";
  // When the slower ones are on another host, it may wait for as long as it has measured.
  ranks.take(event("phase", 1, {{"phase", "collecting"}}), 2000 * kSecond);
  EXPECT_FALSE(ranks.stalled(2499 * kSecond));
  ASSERT_TRUE(ranks.stalled(2501 * kSecond));
  EXPECT_EQ(ranks.stalled(2501 * kSecond)->rank, 0);
  EXPECT_DOUBLE_EQ(ranks.stalled(2501 * kSecond)->limit_s, 500);
  // With its summary the last wait is over: MPI's own end takes no time.
  ranks.take(event("summary", 0), 2100 * kSecond);
  ASSERT_TRUE(ranks.stalled(2201 * kSecond));
  EXPECT_DOUBLE_EQ(ranks.stalled(2201 * kSecond)->limit_s, 100);
}

TEST(RankTracker, AStatedLimitHoldsForAShortWait) {
  RankTracker ranks(1, 10.0, 0);
  ranks.take(event("phase", 0, {{"phase", "measuring"}}), 0);
  ranks.take(event("phase", 0, {{"phase", "collecting"}}), 5 * kSecond);
  EXPECT_FALSE(ranks.stalled(14 * kSecond));
  EXPECT_TRUE(ranks.stalled(16 * kSecond));
}

TEST(RankTracker, TelemetryIsNoProgress) {
  RankTracker ranks(1, 10.0, 0);
  EXPECT_TRUE(ranks.take(event("telemetry", 0, {{"rss_bytes", 5}}), 9 * kSecond));
  EXPECT_TRUE(ranks.stalled(11 * kSecond));
}

TEST(RankTracker, KeepsTheFirstFailureAndNoneAfterWeStoppedIt) {
  RankTracker ranks(2, std::nullopt, 0);
  ranks.take(event("failure", 1, {{"reason", "nan_loss"}}), 0);
  ranks.take(event("failure", 0, {{"reason", "internal"}}), 0);
  EXPECT_EQ(ranks.failure()->reason, "nan_loss");
  EXPECT_EQ(ranks.failed_rank(), 1);
  RankTracker stopped(1, std::nullopt, 0);
  stopped.ignore_failures();
  stopped.take(event("failure", 0, {{"reason", "internal"}}), 0);
  EXPECT_FALSE(stopped.failure());
}

}  // namespace
}  // namespace rackmark::agent
