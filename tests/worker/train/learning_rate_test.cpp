#include "worker/train/learning_rate.hpp"

#include <gtest/gtest.h>

namespace rackmark::worker {
namespace {

OptimizerSpec optimizer(Schedule schedule, std::int64_t warmup_steps = 0) {
  OptimizerSpec spec;
  spec.learning_rate = 0.8;
  spec.schedule = schedule;
  spec.warmup_steps = warmup_steps;
  return spec;
}

TEST(LearningRate, ConstantIsConstant) {
  for (const std::int64_t step : {0, 1, 99, 1000})
    EXPECT_EQ(learning_rate(optimizer(Schedule::kConstant), step, 100), 0.8);
}

TEST(LearningRate, WarmupRisesInEqualParts) {
  for (const Schedule schedule : {Schedule::kConstant, Schedule::kStep, Schedule::kCosine}) {
    EXPECT_DOUBLE_EQ(learning_rate(optimizer(schedule, 4), 0, 100), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate(optimizer(schedule, 4), 1, 100), 0.4);
    EXPECT_DOUBLE_EQ(learning_rate(optimizer(schedule, 4), 3, 100), 0.8);
    EXPECT_DOUBLE_EQ(learning_rate(optimizer(schedule, 4), 4, 100), 0.8);
  }
}

TEST(LearningRate, StepTakesATenthThreeTimes) {
  const auto at = [](std::int64_t step) {
    return learning_rate(optimizer(Schedule::kStep), step, 90);
  };
  EXPECT_DOUBLE_EQ(at(29), 0.8);
  EXPECT_DOUBLE_EQ(at(30), 0.08);
  EXPECT_DOUBLE_EQ(at(59), 0.08);
  EXPECT_NEAR(at(60), 0.008, 1e-15);
  EXPECT_NEAR(at(80), 0.0008, 1e-15);
  EXPECT_NEAR(at(500), 0.0008, 1e-15);
}

TEST(LearningRate, CosineFallsToZeroAndStaysThere) {
  const auto at = [](std::int64_t step) {
    return learning_rate(optimizer(Schedule::kCosine, 10), step, 110);
  };
  EXPECT_DOUBLE_EQ(at(10), 0.8);
  EXPECT_NEAR(at(60), 0.4, 1e-12);
  EXPECT_NEAR(at(35), 0.8 * 0.8535533905932737, 1e-12);
  EXPECT_NEAR(at(110), 0, 1e-12);
  EXPECT_NEAR(at(200), 0, 1e-12);
}

}  // namespace
}  // namespace rackmark::worker
