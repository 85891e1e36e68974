// A batch norm as part of an operation, whatever else that merges with it.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {

// One batch norm: its parameters, its input, and what a step keeps of it.
class Norm {
 public:
  void plan_forward(Assembly& assembly, int node) {
    const NodeInfo& info = assembly.node(node);
    layer_ = std::get<BatchNorm>(info.layer);
    name_ = info.name;
    input_ = info.inputs[0];
    x_place_ = assembly.use(input_);
    if (x_place_.rows < 2) {
      throw std::invalid_argument("cuda: batch norm '" + name_ +
                                  "' has one value a channel; it needs at least 2");
    }
    weight_ = assembly.parameter(node, "weight");
    bias_ = assembly.parameter(node, "bias");
    mean_ = assembly.statistic(node, "mean");
    variance_ = assembly.statistic(node, "var");
    for (const int p : {weight_, bias_}) {
      assembly.layouts[p] = plain_layout(assembly.net.parameters()[p]);
    }
    sums_ = assembly.values[input_].sums;
    if (sums_) assembly.arena.use(sums_->slot, assembly.event);
    kept_slot_ = assembly.add_floats(2 * channels());     // mean, inverse deviation
    applied_slot_ = assembly.add_floats(2 * channels());  // scale, shift
  }
  // What the convolution that reads the norm's value may do of its work.
  void plan_sharing(Assembly& assembly, std::shared_ptr<NormInConvolution> shared) {
    shared_ = std::move(shared);
    shared_->x = x_place_;
    shared_->weight = weight_;
    shared_->bias = bias_;
    shared_->kept_slot = kept_slot_;
    shared_->narrow_slot = assembly.add_buffer(2 * channels() * width(x_place_.type));
  }
  void plan_backward(Assembly& assembly) {
    if (shared_) assembly.arena.use(shared_->sums_slot, assembly.event);
    assembly.use(x_place_);
    assembly.arena.use(kept_slot_, assembly.event);
    coefficients_slot_ = assembly.add_floats(3 * channels());
  }
  void bind(const Binding& where) {
    x_ = where.matrix(x_place_);
    binding_ = {where.parameters[weight_], where.parameters[bias_], where.gradients[weight_],
                where.gradients[bias_],    where.running[mean_],    where.running[variance_]};
    partial_ = static_cast<float*>(where.scratch);
    if (sums_ && sums_->made) summed_ = where.floats(sums_->slot);
    mean_values_ = where.floats(kept_slot_);
    scale_ = where.floats(applied_slot_);
    a_ = where.floats(coefficients_slot_);
    if (applied_by_reader()) narrow_ = narrow_norm(where, *shared_);
    if (summed_by_reader()) partial_back_ = where.floats(shared_->sums_slot);
  }
  bool applied_by_reader() const { return shared_ && shared_->applies; }
  bool summed_by_reader() const { return shared_ && shared_->sums; }

  void statistics(Pass& pass) {
    if (!pass.training) {
      pass.run(name_, "forward", "norm_from_running", pass.kernels.norm_from_running, 0,
               {channels(), binding_.weight, binding_.bias, binding_.running_mean,
                binding_.running_variance, layer_.epsilon, scale_, shift(), narrow_.scale,
                narrow_.shift});
      return;
    }
    if (summed_ == nullptr) {
      pass.run(name_, "forward", "norm_sums", pass.kernels.norm_sums, bytes(), {x_, partial_});
    }
    pass.run(name_, "forward", "norm_statistics", pass.kernels.norm_statistics, 0,
             {summed_ == nullptr ? partial_ : summed_, summed_ != nullptr, x_, binding_.weight,
              binding_.bias, binding_.running_mean, binding_.running_variance, layer_.momentum,
              layer_.epsilon, mean_values_, inverse_deviation(), scale_, shift(), narrow_.scale,
              narrow_.shift});
  }

  // From the sums of the group: which of how many is of g * (x - mean).
  void backward_statistics(Pass& pass, int sums, int sum) {
    pass.run(
        name_, "backward_weights", "norm_backward_statistics",
        pass.kernels.norm_backward_statistics, 0,
        {summed_by_reader() ? partial_back_ : partial_, sums, sum, x_.rows, channels(),
         binding_.weight, inverse_deviation(), binding_.weight_gradient, binding_.bias_gradient, a_,
         a_ + channels(), a_ + 2 * channels(), summed_by_reader()});
  }
  void apply_backward(Pass& pass, const Matrix& dy, const std::uint8_t* mask, const Matrix& dx) {
    pass.run(name_, "backward_data", "norm_backward_apply", pass.kernels.norm_backward_apply,
             3 * bytes(), {dy, x_, dx, mask, mean_values_, a(), b(), c()});
  }
  void ready(Pass& pass) const {
    pass.ready(weight_);
    pass.ready(bias_);
  }

  int channels() const { return x_place_.channels; }
  int input() const { return input_; }
  int weight() const { return weight_; }
  int bias() const { return bias_; }
  const std::string& name() const { return name_; }
  const Place& x_place() const { return x_place_; }
  const Matrix& x() const { return x_; }
  const float* mean() const { return mean_values_; }
  const float* scale() const { return scale_; }
  const float* a() const { return a_; }  // dx = g * a + (x - mean) * b + c
  const float* b() const { return a_ + channels(); }
  const float* c() const { return a_ + 2 * channels(); }
  float* shift() const { return scale_ + channels(); }
  float* partial() const { return partial_; }
  double bytes() const { return static_cast<double>(x_place_.bytes()); }

 private:
  struct Bound {
    const float *weight = nullptr, *bias = nullptr;
    float *weight_gradient = nullptr, *bias_gradient = nullptr;
    float *running_mean = nullptr, *running_variance = nullptr;
  };
  float* inverse_deviation() const { return mean_values_ + channels(); }

  BatchNorm layer_;
  std::string name_;
  int input_ = -1, weight_ = -1, bias_ = -1, mean_ = -1, variance_ = -1;
  Place x_place_;
  std::shared_ptr<const ChannelSums> sums_;    // of x; may be null
  std::shared_ptr<NormInConvolution> shared_;  // may be null
  int kept_slot_ = -1, applied_slot_ = -1, coefficients_slot_ = -1;
  Matrix x_;
  Bound binding_;
  const float* summed_ = nullptr;  // by the convolution before; null: own sums
  float *partial_ = nullptr, *mean_values_ = nullptr, *scale_ = nullptr, *a_ = nullptr;
  const float* partial_back_ = nullptr;  // by the convolution after
  NarrowNorm narrow_;
};

}  // namespace rackmark::worker::cuda
