// Training on the host device against the plain backend in double, in every precision and at every
// level of fusion.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "plans.hpp"

namespace rackmark::worker::test {

inline Node classify(Net& net, Node x) {
  return net.linear(net.flatten(net.adaptive_average_pool(x, {1})), "fc", {net.classes()});
}

inline Results trained(const Net& net, int batch, const std::string& precision,
                       const std::string& fusion, int steps) {
  PlanOptions options{.batch = batch, .precision = precision, .fusion = fusion};
  options.loss_scale = 256;
  return train_and_evaluate(*cuda_plan(net, options), batch, steps);
}

inline void expect_close(const Results& got, const Results& exact, double tolerance) {
  ASSERT_EQ(got.size(), exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_LT(relative_distance(got[i].second, exact[i].second), tolerance) << exact[i].first;
  }
}

// A narrow precision may be three times as far from double as the plain backend with the same
// digits.
inline void expect_similar(const Net& net, int batch, const std::string& precision,
                           const std::string& fusion = "") {
  SCOPED_TRACE(precision + " " + fusion);
  const auto got = trained(net, batch, precision, fusion, 1);
  const auto plain = train_and_evaluate(*plain_plan(net, batch, precision), batch, 1);
  const auto exact = train_and_evaluate(*plain_plan(net, batch, "fp64"), batch, 1);
  // Convolutions take a batch norm's scale and shift in 16 bits: now and then a value crosses zero,
  // and ReLU sends one gradient more, or less, back through these small nets.
  const bool rounds_scales = fusion.ends_with("+bn-in-conv");
  const double floor = rounds_scales ? 0.03 : precision == "bf16" ? 0.02 : 0.004;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const auto& [name, wanted] = exact[i];
    const double allowed = std::min(0.5, floor + 3 * relative_distance(plain[i].second, wanted));
    EXPECT_LT(relative_distance(got[i].second, wanted), allowed) << name;
  }
}

inline void expect_same_training(const Net& net, int batch, double tolerance = 2e-4) {
  constexpr int kSteps = 3;
  const auto exact = train_and_evaluate(*plain_plan(net, batch, "fp64"), batch, kSteps);
  for (const std::string fusion : {"", "none"}) {
    SCOPED_TRACE("batch " + std::to_string(batch) + " fusion '" + fusion + "'");
    expect_close(trained(net, batch, "fp32", fusion, kSteps), exact, tolerance);
  }
  expect_similar(net, batch, "bf16");
  expect_similar(net, batch, "fp16");
  expect_similar(net, batch, "fp16", "bn-relu-add+pool+conv-statistics");
  expect_similar(net, batch, "fp16", "bn-relu-add+pool+conv-statistics+bn-in-conv");
}

}  // namespace rackmark::worker::test
