// What the CPU backend says of its device: the convolution-only bound counts the right layers, the
// prediction of memory is what a plan takes, peaks exist where the CPU has the instructions.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "worker/backend/caches.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/onednn_backend.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

PlanOptions options_of(int batch) {
  PlanOptions options;
  options.batch = batch;
  options.threads = 1;
  return options;
}

std::int64_t executions(const ConvolutionBound& bound, const std::string& pass) {
  std::int64_t count = 0;
  for (const BoundRow& row : bound.rows)
    if (row.pass == pass) count += row.count;
  return count;
}

ConvolutionBound measured(const Net& net, bool training) {
  const auto meter = make_onednn_backend()->convolution_bound(net, options_of(2), training);
  for (int round = 0; round < 3; ++round) meter->round();
  return meter->result();
}

TEST(ConvolutionBound, CountsEveryConvolutionOnceAPassButNoGradientOfTheInput) {
  const Net net = build_model("resnet50", 32);
  const ConvolutionBound bound = measured(net, true);
  EXPECT_EQ(bound.rounds, 3);
  EXPECT_EQ(executions(bound, "forward"), 53);
  EXPECT_EQ(executions(bound, "backward_weights"), 53);
  EXPECT_EQ(executions(bound, "backward_data"), 52) << "conv1 is fed by the input";
  double gflop = 0, ms = 0, best_ms = 0;
  std::set<std::string> once;
  for (const BoundRow& row : bound.rows) {
    gflop += static_cast<double>(row.count) * row.gflop;
    ms += static_cast<double>(row.count) * row.ms;
    best_ms += static_cast<double>(row.count) * row.best_ms;
    EXPECT_GT(row.best_ms, 0);
    EXPECT_LE(row.best_ms, row.ms);
    EXPECT_FALSE(row.implementation.empty()) << row.shape;
    EXPECT_TRUE(once.insert(row.shape + row.pass).second) << "timed twice: " << row.shape;
  }
  EXPECT_NEAR(bound.ms, ms, 1e-9 * ms);
  EXPECT_NEAR(bound.best_ms, best_ms, 1e-9 * ms);
  const double linear = 3 * 2.0 * 2048 * 1000;  // of one image; the only layer that is not counted
  EXPECT_NEAR(gflop, 2 * (net.training_flop_per_image() - linear) * 1e-9, 1e-6);
}

TEST(ConvolutionBound, LinearLayersCountWhereTheyHoldMostOfTheParameters) {
  const ConvolutionBound bound = measured(build_model("alexnet", 63, 10), true);
  EXPECT_EQ(executions(bound, "forward"), 5 + 3);
  EXPECT_EQ(executions(bound, "backward_data"), 4 + 3);
}

TEST(ConvolutionBound, InferenceStopsAtTheMainHead) {
  const ConvolutionBound bound = measured(build_model("googlenet", 64), false);
  EXPECT_EQ(executions(bound, "forward"), 57);
  EXPECT_EQ(executions(bound, "backward_data") + executions(bound, "backward_weights"), 0);
}

TEST(PredictBytes, IsWhatAPlanTakes) {
  const auto backend = make_onednn_backend();
  const Net net = build_model("resnet50", 32);
  std::int64_t before = 0;
  for (const int batch : {2, 3, 8}) {
    const auto predicted = backend->predict_bytes(net, options_of(batch));
    ASSERT_TRUE(predicted);
    EXPECT_EQ(*predicted, backend->compile(net, options_of(batch))->facts().arena_bytes);
    EXPECT_GT(*predicted, before);
    before = *predicted;
  }
}

TEST(MatrixPeak, IsMeasuredWhereTheCpuHasTheInstructions) {
  const auto backend = make_onednn_backend();
  const auto fp32 = backend->matrix_peak("fp32", 1, 0.05);
  ASSERT_TRUE(fp32);
  EXPECT_GT(*fp32, 1) << "GFLOP/s of one core";
  EXPECT_LT(*fp32, 10'000);
  EXPECT_EQ(backend->matrix_peak("bf16", 1, 0.05).has_value(), onednn::has_bf16())
      << onednn::isa_name();
  EXPECT_FALSE(backend->matrix_peak("fp64", 1, 0.05));
}

TEST(Caches, AreCountedByInstance) {
  char pattern[] = "/tmp/rackmark-caches-XXXXXX";
  const std::string root = mkdtemp(pattern);
  for (int cpu = 0; cpu < 64; ++cpu) {  // the process runs on some of these
    const std::string folder =
        root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index";
    const auto write = [&](int index, const char* type, const char* level, const char* size) {
      const std::string at = folder + std::to_string(index) + "/";
      std::filesystem::create_directories(at);
      std::ofstream(at + "type") << type << '\n';
      std::ofstream(at + "level") << level << '\n';
      std::ofstream(at + "size") << size << '\n';
      std::ofstream(at + "shared_cpu_list") << (level[0] == '1' ? std::to_string(cpu) : "0-63");
    };
    write(0, "Data", "1", "48K");
    write(1, "Instruction", "1", "32K");
    write(2, "Unified", "3", "2M");
  }
  EXPECT_EQ(cache_of_level(1, root).bytes, 48 << 10);
  EXPECT_GE(cache_of_level(1, root).instances, 1);
  EXPECT_EQ(cache_of_level(3, root).total(), 2 << 20);
  EXPECT_EQ(cache_of_level(2, root).total(), 0);
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace rackmark::worker
