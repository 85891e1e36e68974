#include "worker/verify/training_run.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "worker/backend/digits.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

constexpr std::size_t kFirstLogits = 16;  // per image

double l2(const std::vector<double>& values) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return std::sqrt(squares);
}

// Dot product with a fixed pseudo-random vector: unlike a norm it sees a wrong sign or order.
double probe(std::int64_t seed, const std::string& name, const std::vector<double>& values) {
  const auto direction = uniform(std::to_string(seed) + ":probe:" + name, std::ssize(values));
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += direction[i] * values[i];
  return sum;
}

std::vector<std::vector<double>> first_logits(const TrainPlan& plan, std::int64_t batch) {
  const auto all = plan.logits();
  const std::size_t width = all.size() / static_cast<std::size_t>(batch);
  std::vector<std::vector<double>> rows;
  for (auto row = all.begin(); row != all.end(); row += static_cast<std::ptrdiff_t>(width)) {
    rows.emplace_back(row, row + static_cast<std::ptrdiff_t>(std::min(width, kFirstLogits)));
  }
  return rows;
}

void move(std::vector<float>& values, const std::string& name, float most) {
  const auto shares = uniform(name, static_cast<std::int64_t>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= 1 + most * shares[i];
}

void fill(TrainPlan& plan, std::int64_t seed, const Moved& moved) {
  const Net& net = plan.net();
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    std::vector<float> values = initial_value(net.parameters()[i], seed);
    if (moved.run != 0) {
      move(values, std::to_string(moved.run) + ":" + net.parameters()[i].name, moved.most);
    }
    plan.write_parameter(static_cast<int>(i), values);
  }
  for (std::size_t i = 0; i < net.running_statistics().size(); ++i) {
    const auto& statistic = net.running_statistics()[i];
    const bool variance = statistic.name.ends_with(".running_var");
    plan.write_running(static_cast<int>(i),
                       std::vector<float>(statistic.channels, variance ? 1.0f : 0.0f));
  }
}

void measure_gradients(const TrainPlan& plan, std::int64_t seed, Results& results) {
  const auto& parameters = plan.net().parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto gradient = plan.read_gradient(static_cast<int>(i));
    results.gradient_l2[parameters[i].name] = l2(gradient);
    results.gradient_probe[parameters[i].name] = probe(seed, parameters[i].name, gradient);
  }
}

void measure_parameters(const TrainPlan& plan, std::int64_t seed, Results& results) {
  const auto& parameters = plan.net().parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto values = plan.read_parameter(static_cast<int>(i));
    results.parameter_l2[parameters[i].name] = l2(values);
    results.parameter_probe[parameters[i].name] = probe(seed, parameters[i].name, values);
    results.shapes[parameters[i].name] = parameters[i].dims;
  }
  results.parameters = plan.net().parameter_count();
}

}  // namespace

Moved moved_by_rounding(const std::string& precision, int run) {
  constexpr int kDigitsOfHalf = 11;
  const float most = kept_digits(precision) == kDigitsOfHalf
                         ? std::ldexp(1.0F, -kDigitsOfHalf)
                         : 4 * std::numeric_limits<float>::epsilon();
  return {run, most};
}

Net net_of(const Reference& reference) {
  Net net = build_model(reference.model, static_cast<int>(reference.image_size),
                        static_cast<int>(reference.classes));
  const auto must_equal = [&](const std::string& what, double here, double there) {
    if (here == there) return;
    throw std::invalid_argument("model '" + reference.model + "': " + what + " is " +
                                std::to_string(here) + " here and " + std::to_string(there) +
                                " in the reference");
  };
  for (const auto& node : net.nodes()) {
    const auto* bn = std::get_if<BatchNorm>(&node.layer);
    if (bn == nullptr) continue;
    must_equal("batch-norm epsilon", bn->epsilon, reference.batch_norm.epsilon);
    must_equal("batch-norm momentum", bn->momentum, reference.batch_norm.momentum);
  }
  for (const auto& head : net.heads().subspan(1)) {
    must_equal("auxiliary loss weight", head.weight, reference.auxiliary_loss_weight);
  }
  return net;
}

Results train(TrainPlan& plan, const Reference& reference, const Moved& moved) {
  const std::int64_t size = reference.image_size;
  const auto images =
      uniform(std::to_string(reference.seed) + ":input", reference.batch * 3 * size * size);
  std::vector<std::int32_t> labels;
  for (std::int64_t n = 0; n < reference.batch; ++n) {
    labels.push_back(static_cast<std::int32_t>((37 * n + 11) % reference.classes));
  }
  const Batch batch{images, labels};
  const SgdStep sgd{reference.optimizer.learning_rate, reference.optimizer.momentum,
                    reference.optimizer.weight_decay};
  fill(plan, reference.seed, moved);

  Results results;
  for (std::int64_t step = 0; step < reference.steps; ++step) {
    results.loss.push_back(plan.forward(batch));
    if (step == 0) results.logits = first_logits(plan, reference.batch);
    plan.backward();
    if (step == 0) measure_gradients(plan, reference.seed, results);
    plan.update(sgd);
    if (step > 0) continue;
    const auto& statistics = plan.net().running_statistics();
    for (std::size_t i = 0; i < statistics.size(); ++i) {
      results.running[statistics[i].name] = l2(plan.read_running(static_cast<int>(i)));
    }
  }
  measure_parameters(plan, reference.seed, results);
  plan.evaluate(batch);
  results.eval_logits = first_logits(plan, reference.batch);
  return results;
}

}  // namespace rackmark::worker
