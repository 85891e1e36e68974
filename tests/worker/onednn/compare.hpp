// Trains the same small net on the plain backend in double and on oneDNN, and compares everything.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/backend/onednn/onednn_backend.hpp"
#include "worker/backend/reference/reference.hpp"

namespace rackmark::worker::test {

using Build = std::function<void(Net&)>;

inline Net make_net(int size, int classes, const Build& build,
                    LossKind kind = LossKind::kSoftmaxCrossEntropy) {
  Net net("test", size, classes);
  net.set_loss_kind(kind);
  build(net);
  return net;
}

struct Data {
  std::vector<float> images;
  std::vector<std::int32_t> labels;
  Batch batch() const { return {images, labels}; }
};

inline Data make_data(const Net& net, int batch, int seed = 1) {
  Data data;
  data.images = uniform(std::to_string(seed) + ":input", batch * net.nodes()[0].shape.elements());
  for (int n = 0; n < batch; ++n) data.labels.push_back((37 * n + seed) % net.classes());
  return data;
}

inline void fill(TrainPlan& plan, std::int64_t seed = 1) {
  const auto& parameters = plan.net().parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i)
    plan.write_parameter(static_cast<int>(i), initial_value(parameters[i], seed));
}

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

inline std::unique_ptr<TrainPlan> plain_plan(const Net& net, int batch,
                                             const std::string& precision) {
  PlanOptions options;
  options.batch = batch;
  options.precision = precision;
  options.threads = 1;
  auto plan = make_reference_backend()->compile(net, options);
  fill(*plan);
  return plan;
}

inline double relative_distance(const std::vector<double>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference) / std::max(std::sqrt(norm), 1e-6);
}

inline constexpr SgdStep kStep{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3};

// What some training steps and an evaluation after them give, by name.
using Results = std::vector<std::pair<std::string, std::vector<double>>>;

inline Results train_and_evaluate(TrainPlan& plan, int batch, int steps) {
  const Net& net = plan.net();
  Results results;
  for (int step = 0; step < steps; ++step) {
    const std::string at = " in step " + std::to_string(step);
    const Data data = make_data(net, batch, step);
    results.push_back({"loss" + at, {plan.forward(data.batch())}});
    results.push_back({"logits" + at, plan.logits()});
    plan.backward();
    for (std::size_t i = 0; i < net.parameters().size(); ++i) {
      results.push_back({"gradient of " + net.parameters()[i].name + at,
                         plan.read_gradient(static_cast<int>(i))});
    }
    plan.update(kStep);
  }
  for (std::size_t i = 0; i < net.parameters().size(); ++i)
    results.push_back({net.parameters()[i].name, plan.read_parameter(static_cast<int>(i))});
  for (std::size_t i = 0; i < net.running_statistics().size(); ++i)
    results.push_back({net.running_statistics()[i].name, plan.read_running(static_cast<int>(i))});
  const Data data = make_data(net, batch, 9);
  plan.evaluate(data.batch());
  results.push_back({"logits of the evaluation", plan.logits()});
  return results;
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
