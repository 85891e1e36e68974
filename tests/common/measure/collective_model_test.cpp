#include "common/measure/collective_model.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace rackmark::measure {
namespace {

TEST(CollectiveModel, CostsAreThoseOfTheAlgorithms) {
  const auto cost = [](const char* name, std::int64_t ranks) {
    return *all_reduce_cost(name, ranks, 1200);
  };
  EXPECT_EQ(cost("ring", 2), (CollectiveCost{2, 1200}));
  EXPECT_EQ(cost("ring", 3), (CollectiveCost{4, 1600}));
  EXPECT_EQ(cost("ring", 4), (CollectiveCost{6, 1800}));
  EXPECT_EQ(cost("recursive_doubling", 2), (CollectiveCost{1, 1200}));
  EXPECT_EQ(cost("recursive_doubling", 4), (CollectiveCost{2, 2400}));
  EXPECT_EQ(cost("recursive_doubling", 3), (CollectiveCost{3, 3600}));
  EXPECT_EQ(cost("rabenseifner", 4), (CollectiveCost{4, 1800}));
  EXPECT_EQ(cost("rabenseifner", 3), (CollectiveCost{5, 3600}));
  EXPECT_EQ(cost("rabenseifner", 1), (CollectiveCost{0, 0}));
  EXPECT_FALSE(all_reduce_cost("tree", 2, 1));
  EXPECT_EQ(sixteen_bit_all_reduce_cost(3, 1200), (CollectiveCost{4, 800}));
}

TEST(CollectiveModel, TheCheapestDependsOnTheSize) {
  const LinkModel slow_start{1e-3, 1e-8};
  EXPECT_EQ(cheapest_all_reduce(8, 100, slow_start).messages, 3) << "few messages for little data";
  const CollectiveCost large = cheapest_all_reduce(8, 1e8, slow_start);
  EXPECT_DOUBLE_EQ(large.bytes, 1.75e8) << "few bytes for much";
  EXPECT_EQ(large.messages, 6);
}

TEST(CollectiveModel, PushAndPullIsWhatTheBusiestLinkCarriesAndTheLastAnswers) {
  const double shard = 4194304, n = 8 * shard;
  const auto bytes = [&](std::int64_t workers, std::int64_t servers, bool dedicated) {
    return push_pull_cost({workers, servers, dedicated, shard}, n).bytes;
  };
  EXPECT_DOUBLE_EQ(bytes(2, 2, true), 1.5 * n) << "half of the answers after the pushes";
  EXPECT_DOUBLE_EQ(bytes(4, 2, true), 3 * n) << "a server's link carries twice as much";
  EXPECT_DOUBLE_EQ(bytes(2, 4, true), 2 * n) << "two shards a server: nothing flows beside pushes";
  EXPECT_DOUBLE_EQ(bytes(4, 1, false), 3 * n * 1.25) << "one server's answers to three others";
  for (const std::int64_t ranks : {2, 4, 8}) {  // whatever the shards: no link is ever idle
    const double p = static_cast<double>(ranks);
    EXPECT_DOUBLE_EQ(bytes(ranks, ranks, false), 2 * (p - 1) / p * n);
    EXPECT_DOUBLE_EQ(push_pull_cost({ranks, ranks, false, n}, n).bytes, 2 * (p - 1) / p * n);
  }
  EXPECT_DOUBLE_EQ(push_pull_cost({4, 4, false, shard}, n).messages, 12) << "a message a shard";
  EXPECT_DOUBLE_EQ(push_pull_cost({2, 2, true, n}, n).messages, 4) << "a shard for each server";
  EXPECT_EQ(push_pull_cost({1, 1, false, shard}, n), CollectiveCost{}) << "to itself";
}

TEST(CollectiveModel, BusBandwidthCountsAsNcclTestsDo) {
  EXPECT_DOUBLE_EQ(bus_factor("all_reduce", 2), 1);
  EXPECT_DOUBLE_EQ(bus_factor("all_reduce", 4), 1.5);
  EXPECT_DOUBLE_EQ(bus_factor("push_pull", 4), 1.5);
  EXPECT_DOUBLE_EQ(bus_factor("broadcast", 4), 1);
}

TEST(CollectiveModel, AFitFindsTheLinkAgain) {
  const LinkModel link{50e-6, 8e-9};
  std::vector<CollectivePoint> points;
  for (const double bytes : {1e3, 1e5, 1e7}) {
    for (const std::int64_t ranks : {2, 3}) {
      const CollectiveCost cost = *all_reduce_cost("ring", ranks, bytes);
      points.push_back({cost, seconds_of(cost, link)});
    }
  }
  const auto found = fit_link(points);
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->alpha_s, link.alpha_s, 1e-12);
  EXPECT_NEAR(found->beta_s_per_byte, link.beta_s_per_byte, 1e-16);
  const CollectiveCost eight = *all_reduce_cost("rabenseifner", 8, 1e8);
  EXPECT_NEAR(seconds_of(eight, *found), 6 * 50e-6 + 1.75e8 * 8e-9, 1e-9);
}

TEST(CollectiveModel, AFitIsNeverNegativeAndNeedsTwoPoints) {
  const std::vector<CollectivePoint> shrinking = {{{2, 100}, 1.0}, {{2, 1000}, 0.9}};
  const auto flat = fit_link(shrinking);
  ASSERT_TRUE(flat);
  EXPECT_EQ(flat->beta_s_per_byte, 0);
  EXPECT_NEAR(flat->alpha_s, 0.475, 0.01);
  const std::vector<CollectivePoint> no_start = {{{1, 100}, 0.01}, {{1, 1000}, 1.0}};
  ASSERT_TRUE(fit_link(no_start));
  EXPECT_EQ(fit_link(no_start)->alpha_s, 0);
  EXPECT_FALSE(fit_link(std::vector<CollectivePoint>{{{1, 100}, 1}}));
  EXPECT_FALSE(fit_link(std::vector<CollectivePoint>{{{1, 100}, 1}, {{2, 200}, 2}}));
  EXPECT_FALSE(fit_link(std::vector<CollectivePoint>{{{1, 100}, 0}, {{2, 300}, 2}}));
}

TEST(CollectiveModel, AFitOfAllReducesFindsTheLinkByEveryAlgorithm) {
  const LinkModel link{40e-6, 8e-9};
  for (const char* algorithm : {"ring", "recursive_doubling", "rabenseifner", "auto"}) {
    for (const std::int64_t ranks : {2, 3, 4, 6}) {
      std::vector<AllReducePoint> points;
      for (const double bytes : {4096.0, 65536.0, 524288.0, 4194304.0}) {
        const CollectiveCost cost = std::string_view(algorithm) == "auto"
                                        ? cheapest_all_reduce(ranks, bytes, link)
                                        : *all_reduce_cost(algorithm, ranks, bytes);
        points.push_back({ranks, bytes, seconds_of(cost, link)});
      }
      const auto found = fit_all_reduces(points, algorithm);
      ASSERT_TRUE(found) << algorithm << " on " << ranks;
      EXPECT_NEAR(found->alpha_s, link.alpha_s, 1e-9) << algorithm << " on " << ranks;
      EXPECT_NEAR(found->beta_s_per_byte, link.beta_s_per_byte, 1e-13) << algorithm << ranks;
    }
  }
  EXPECT_FALSE(fit_all_reduces(std::vector<AllReducePoint>{{2, 4096, 1e-3}}, "ring"));
  EXPECT_FALSE(fit_all_reduces(std::vector<AllReducePoint>{{2, 1, 1}, {2, 2, 2}}, "tree"));
}

}  // namespace
}  // namespace rackmark::measure
