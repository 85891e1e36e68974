// Checks a layer's backward pass against central differences of its forward pass, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {

inline std::vector<double> random_values(const std::string& name, std::size_t count,
                                         double scale = 1) {
  std::vector<double> values;
  for (const float v : uniform(name, static_cast<std::int64_t>(count))) values.push_back(scale * v);
  return values;
}

// One layer with inputs, parameters and everything else that it works on.
template <class L>
class LayerBench {
 public:
  LayerBench(L layer, std::vector<Shape> in, Shape out, int batch, std::size_t weights = 0,
             std::size_t biases = 0)
      : layer_(layer),
        weight_(random_values("weight", weights)),
        bias_(random_values("bias", biases)),
        weight_gradient_(weights, 77),  // backward overwrites them
        bias_gradient_(biases, 77),
        running_mean_(static_cast<std::size_t>(out.channels)),
        running_var_(static_cast<std::size_t>(out.channels), 1),
        output_(static_cast<std::size_t>(batch * out.elements())),
        direction_(random_values("direction", output_.size())) {
    context_ = {.in = std::move(in), .out = out, .batch = batch, .threads = 1};
    if (weights > 0) context_.weight = weight_.data();
    if (weights > 0) context_.weight_gradient = weight_gradient_.data();
    if (biases > 0) context_.bias = bias_.data();
    if (biases > 0) context_.bias_gradient = bias_gradient_.data();
    context_.running_mean = running_mean_.data();
    context_.running_var = running_var_.data();
    for (std::size_t i = 0; i < context_.in.size(); ++i) {
      inputs_.push_back(random_values("input" + std::to_string(i),
                                      static_cast<std::size_t>(batch * context_.in[i].elements())));
    }
  }

  Context<double>& context() { return context_; }
  std::vector<std::vector<double>>& inputs() { return inputs_; }
  const std::vector<double>& output() const { return output_; }
  const std::vector<double>& running_mean() const { return running_mean_; }
  const std::vector<double>& running_var() const { return running_var_; }
  std::vector<double>& mutable_running_var() { return running_var_; }

  const std::vector<double>& forward(Pass pass = Pass::kTraining) {
    if (!op_) op_ = make_op(layer_, context_);
    op_->forward(pointers(), output_.data(), pass);
    return output_;
  }

  // The worst relative error of any gradient: of inputs, weights and biases. The objective is the
  // output's dot product with a fixed direction; errors are relative to the largest gradient of the
  // same tensor.
  double worst_gradient_error() {
    forward();
    const auto in = pointers();
    op_->backward_weights(in, direction_.data());
    std::vector<std::vector<double>> din;
    std::vector<double*> din_pointers;
    for (const auto& input : inputs_) din.emplace_back(input.size(), kAlreadyThere);
    for (auto& d : din) din_pointers.push_back(d.data());
    op_->backward_data(in, output_.data(), direction_.data(), din_pointers);

    double worst = 0;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      for (double& d : din[i]) d -= kAlreadyThere;  // backward adds
      worst = std::max(worst, error_of(din[i], inputs_[i]));
    }
    const auto weight_gradient = weight_gradient_, bias_gradient = bias_gradient_;
    worst = std::max(worst, error_of(weight_gradient, weight_));
    return std::max(worst, error_of(bias_gradient, bias_));
  }

 private:
  static constexpr double kAlreadyThere = 0.5;
  static constexpr double kStep = 1e-5;

  std::vector<const double*> pointers() const {
    std::vector<const double*> in;
    for (const auto& input : inputs_) in.push_back(input.data());
    return in;
  }

  double objective() {
    forward();
    double sum = 0;
    for (std::size_t i = 0; i < output_.size(); ++i) sum += output_[i] * direction_[i];
    return sum;
  }

  double error_of(const std::vector<double>& gradient, std::vector<double>& variable) {
    double largest = 1e-3, error = 0;
    for (std::size_t i = 0; i < variable.size(); ++i) {
      const double value = variable[i];
      variable[i] = value + kStep;
      const double above = objective();
      variable[i] = value - kStep;
      const double below = objective();
      variable[i] = value;
      const double numeric = (above - below) / (2 * kStep);
      largest = std::max(largest, std::abs(numeric));
      const double off = std::abs(numeric - gradient[i]);
      if (!(off <= error)) error = off;  // NaN stays
    }
    return error / largest;
  }

  L layer_;
  Context<double> context_;
  std::vector<std::vector<double>> inputs_;
  std::vector<double> weight_, bias_, weight_gradient_, bias_gradient_, running_mean_, running_var_;
  std::vector<double> output_, direction_;
  std::unique_ptr<Op<double>> op_;
};

}  // namespace rackmark::worker::reference
