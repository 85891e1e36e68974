// The convolution-only bound on the host device: it counts the layers that the CPU's does, and
// times what a plan would choose.
#include <gtest/gtest.h>

#include "plans.hpp"
#include "worker/models/registry.hpp"
#include "worker/train/profile.hpp"

namespace rackmark::worker::test {
namespace {

ConvolutionBound measured(const Net& net, const std::string& precision, bool training,
                          int rounds = 2) {
  const auto meter =
      host_cuda_backend()->convolution_bound(net, {.batch = 2, .precision = precision}, training);
  for (int round = 0; round < rounds; ++round) meter->round();
  return meter->result();
}

std::int64_t executions(const ConvolutionBound& bound, const std::string& pass) {
  std::int64_t count = 0;
  for (const BoundRow& row : bound.rows) count += row.pass == pass ? row.count : 0;
  return count;
}

// Four convolutions of three sorts, the first of them on the pictures.
Net some_net() {
  return make_net(12, 4, [](Net& n) {
    const Conv2d window{.out = 8, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
    Node x = n.relu(n.conv2d(n.input(), "a", window));
    x = n.relu(n.conv2d(x, "b", window));
    x = n.relu(n.conv2d(x, "c", window));
    x = n.conv2d(x, "d", {.out = 16, .stride = 2});
    n.loss(n.linear(n.flatten(n.adaptive_average_pool(x, {1})), "fc", {4}));
  });
}

TEST(CudaBound, CountsEveryConvolutionOnceAPass) {
  const Net net = some_net();
  const double linear = 2.0 * 16 * 4;  // of one image; the only layer that is not counted
  for (const std::string precision : {"fp32", "fp16"}) {
    const ConvolutionBound bound = measured(net, precision, true);
    EXPECT_EQ(bound.rounds, 2);
    EXPECT_EQ(bound.rows.size(), 3U + 3 + 2);
    EXPECT_EQ(executions(bound, "forward"), 4);
    EXPECT_EQ(executions(bound, "backward_weights"), 4);
    EXPECT_EQ(executions(bound, "backward_data"), 3);
    double gflop = 0, ms = 0;
    for (const BoundRow& row : bound.rows) {
      gflop += static_cast<double>(row.count) * row.gflop;
      ms += static_cast<double>(row.count) * row.ms;
      EXPECT_GT(row.best_ms, 0);
      EXPECT_LE(row.best_ms, row.ms);
      EXPECT_EQ(row.implementation, "host loops");
    }
    EXPECT_NEAR(bound.ms, ms, 1e-9 * ms);
    EXPECT_NEAR(gflop, 2 * (net.training_flop_per_image() - 3 * linear) * 1e-9, 1e-9);
  }
}

TEST(CudaBound, LinearLayersCountWhereTheyHoldMostOfTheParameters) {
  const ConvolutionBound bound = measured(build_model("alexnet", 63, 10), "bf16", true, 1);
  EXPECT_EQ(executions(bound, "forward"), 5 + 3);
  EXPECT_EQ(executions(bound, "backward_data"), 4 + 3);
}

TEST(CudaBound, InferenceHasForwardPassesAndIntegersHaveNoBound) {
  const Net net = some_net();
  const ConvolutionBound bound = measured(net, "tf32", false, 1);
  EXPECT_GT(executions(bound, "forward"), 0);
  EXPECT_EQ(executions(bound, "backward_data") + executions(bound, "backward_weights"), 0);
  EXPECT_EQ(host_cuda_backend()->convolution_bound(net, {.batch = 2, .precision = "int8"}, false),
            nullptr);
}

// A device is given work and goes on by itself: a step has ended when the device says so.
TEST(CudaBound, AProfiledStepLastsUntilTheDeviceHasEndedIt) {
  const Net net = some_net();
  const auto plan =
      host_cuda_backend({.runs_late = true})->compile(net, {.batch = 64, .precision = "fp32"});
  fill(*plan);
  const Data data = make_data(net, 64);
  const Batch batch = data.batch();
  const auto profile = profile_steps(training_work(*plan, batch), nullptr);
  EXPECT_GT(profile.sum_over_step, 0.5);
  EXPECT_LT(profile.sum_over_step, 1.5);  // forward alone is less than half of it
}

TEST(CudaBound, WithoutMemoryForItSaysSo) {
  const auto small = host_cuda_backend({.memory_bytes = 1 << 18});
  EXPECT_THROW(small->convolution_bound(some_net(), {.batch = 64}, true), OutOfMemory);
}

}  // namespace
}  // namespace rackmark::worker::test
