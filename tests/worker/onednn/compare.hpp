// Trains the same small net on the plain backend in double and on oneDNN, and compares everything.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
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
                                              const Faults& faults = {}) {
  PlanOptions options;
  options.batch = batch;
  options.threads = threads;
  options.fusion = fusion;
  options.faults = faults;
  auto plan = make_onednn_backend()->compile(net, options);
  fill(*plan);
  return plan;
}

inline std::unique_ptr<TrainPlan> exact_plan(const Net& net, int batch) {
  PlanOptions options;
  options.batch = batch;
  options.precision = "fp64";
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

// Three training steps and an evaluation.
inline void expect_same_training(const Net& net, int batch, const std::string& fusion = "",
                                 double tolerance = 2e-4) {
  SCOPED_TRACE("batch " + std::to_string(batch) + " fusion '" + fusion + "'");
  // One thread for some, more for others: sums must be right for both.
  const auto plan = onednn_plan(net, batch, fusion, batch % 2 == 0 ? 2 : 1);
  const auto exact = exact_plan(net, batch);
  for (int step = 0; step < 3; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const Data data = make_data(net, batch, step);
    EXPECT_NEAR(plan->forward(data.batch()), exact->forward(data.batch()), tolerance);
    EXPECT_LT(relative_distance(plan->logits(), exact->logits()), tolerance);
    plan->backward();
    exact->backward();
    for (std::size_t i = 0; i < net.parameters().size(); ++i) {
      const int p = static_cast<int>(i);
      EXPECT_LT(relative_distance(plan->read_gradient(p), exact->read_gradient(p)), tolerance)
          << "gradient of " << net.parameters()[i].name;
    }
    plan->update(kStep);
    exact->update(kStep);
  }
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    const int p = static_cast<int>(i);
    EXPECT_LT(relative_distance(plan->read_parameter(p), exact->read_parameter(p)), tolerance)
        << net.parameters()[i].name;
  }
  for (std::size_t i = 0; i < net.running_statistics().size(); ++i) {
    const int s = static_cast<int>(i);
    EXPECT_LT(relative_distance(plan->read_running(s), exact->read_running(s)), tolerance)
        << net.running_statistics()[i].name;
  }
  const Data data = make_data(net, batch, 9);
  plan->evaluate(data.batch());
  exact->evaluate(data.batch());
  EXPECT_LT(relative_distance(plan->logits(), exact->logits()), tolerance) << "evaluation";
}

}  // namespace rackmark::worker::test
