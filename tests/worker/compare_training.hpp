// Trains the same small net on the plain backend in double and on another one, and compares
// everything.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

// One logit; a convolution of an odd number of channels.
inline Net one_logit_net() {
  return make_net(
      8, 2,
      [](Net& n) {
        const Node x = n.relu(n.conv2d(n.input(), "a", {.out = 9, .bias = true}));
        n.loss(n.linear(n.flatten(x), "fc", {1}));
      },
      LossKind::kSigmoidCrossEntropy);
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

}  // namespace rackmark::worker::test
