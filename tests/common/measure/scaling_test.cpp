#include "common/measure/scaling.hpp"

#include <gtest/gtest.h>

namespace rackmark::measure {
namespace {

constexpr double kMiB = 1 << 20;

TEST(Scaling, ASingleBucketIsNeverHidden) {
  const LinkModel link{1e-3, 1e-8};
  const GradientExchange exchange{.algorithm = "ring", .gradient_bytes = 8e5};
  const auto seconds = exchange_seconds(exchange, 4, link);
  ASSERT_TRUE(seconds);
  EXPECT_DOUBLE_EQ(seconds->all, 6 * 1e-3 + 1.5 * 8e5 * 1e-8);
  EXPECT_DOUBLE_EQ(seconds->last_bucket, seconds->all);
  EXPECT_DOUBLE_EQ(exposed_seconds(*seconds, true, 100), seconds->all) << "whatever computes";
}

TEST(Scaling, OverlapHidesWhatBackwardLasts) {
  const LinkModel link{0, 1e-8};
  const GradientExchange exchange{
      .algorithm = "ring", .gradient_bytes = 51 * kMiB, .bucket_bytes = 25 * kMiB};
  const auto seconds = exchange_seconds(exchange, 2, link);  // 25 + 25 + 1 MiB
  ASSERT_TRUE(seconds);
  EXPECT_DOUBLE_EQ(seconds->all, 51 * kMiB * 1e-8);
  EXPECT_DOUBLE_EQ(seconds->last_bucket, kMiB * 1e-8);
  EXPECT_DOUBLE_EQ(exposed_seconds(*seconds, false, 0.3), seconds->all);
  EXPECT_DOUBLE_EQ(exposed_seconds(*seconds, true, 0.3), seconds->all - 0.2) << "2/3 of computing";
  EXPECT_DOUBLE_EQ(exposed_seconds(*seconds, true, 3), seconds->last_bucket);
}

TEST(Scaling, MessagesAreOfEveryBucket) {
  const LinkModel link{1, 0};
  GradientExchange exchange{
      .algorithm = "recursive_doubling", .gradient_bytes = 51 * kMiB, .bucket_bytes = 25 * kMiB};
  EXPECT_DOUBLE_EQ(exchange_seconds(exchange, 4, link)->all, 3 * 2);
  exchange.algorithm = "auto";
  EXPECT_DOUBLE_EQ(exchange_seconds(exchange, 4, link)->all, 3 * 2) << "the fewest messages";
  exchange.sixteen_bits = true;
  EXPECT_DOUBLE_EQ(exchange_seconds(exchange, 4, link)->all, 3 * 6) << "to all, from all";
  EXPECT_DOUBLE_EQ(exchange_seconds(exchange, 1, link)->all, 0) << "nobody to talk to";
  exchange.sixteen_bits = false;
  exchange.algorithm = "tree";
  EXPECT_FALSE(exchange_seconds(exchange, 4, link));
}

TEST(Scaling, EfficiencyIsAgainstTheBasePointPerHost) {
  EXPECT_DOUBLE_EQ(speed_up(180, 100), 1.8);
  EXPECT_DOUBLE_EQ(efficiency(180, 2, 100, 1), 0.9);
  EXPECT_DOUBLE_EQ(efficiency(300, 8, 100, 2), 0.75);
}

}  // namespace
}  // namespace rackmark::measure
