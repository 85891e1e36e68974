// Trains the same small net on the plain backend in double and on oneDNN, and compares everything.
#pragma once

#include <algorithm>

#include "tests/worker/compare_training.hpp"
#include "worker/backend/onednn/onednn_backend.hpp"

namespace rackmark::worker::test {

inline std::unique_ptr<TrainPlan> onednn_plan(const Net& net, int batch,
                                              const std::string& fusion = "", int threads = 2,
                                              const Faults& faults = {},
                                              const std::string& precision = "fp32") {
  PlanOptions options;
  options.precision = precision;
  options.batch = batch;
  options.threads = threads;
  options.fusion = fusion;
  options.faults = faults;
  auto plan = make_onednn_backend()->compile(net, options);
  fill(*plan);
  return plan;
}

// One thread for some, more for others: sums must be right for both.
inline Results results_in(const std::string& precision, const Net& net, int batch,
                          const std::string& fusion, int steps) {
  const auto plan = onednn_plan(net, batch, fusion, batch % 2 == 0 ? 2 : 1, {}, precision);
  return train_and_evaluate(*plan, batch, steps);
}

// bf16 keeps 8 digits, and now and then another pixel is the maximum or a ReLU is closed: so it may
// be three times as far from double as the plain backend in bf16 is. A wrong sign, scale or layout
// is off by 1.
inline void expect_similar_training_in_bf16(const Net& net, int batch, const std::string& fusion) {
  SCOPED_TRACE("bf16");
  constexpr int kSteps = 1;
  const auto got = results_in("bf16", net, batch, fusion, kSteps);
  const auto plain = train_and_evaluate(*plain_plan(net, batch, "bf16"), batch, kSteps);
  const auto exact = train_and_evaluate(*plain_plan(net, batch, "fp64"), batch, kSteps);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const auto& [name, wanted] = exact[i];
    const double allowed = std::min(0.5, 0.02 + 3 * relative_distance(plain[i].second, wanted));
    EXPECT_LT(relative_distance(got[i].second, wanted), allowed) << name;
  }
}

// Three training steps and an evaluation in float32, one step in bf16.
inline void expect_same_training(const Net& net, int batch, const std::string& fusion = "",
                                 double tolerance = 2e-4) {
  SCOPED_TRACE("batch " + std::to_string(batch) + " fusion '" + fusion + "'");
  constexpr int kSteps = 3;
  const auto got = results_in("fp32", net, batch, fusion, kSteps);
  const auto exact = train_and_evaluate(*plain_plan(net, batch, "fp64"), batch, kSteps);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_LT(relative_distance(got[i].second, exact[i].second), tolerance) << exact[i].first;
  }
  expect_similar_training_in_bf16(net, batch, fusion);
}

}  // namespace rackmark::worker::test
