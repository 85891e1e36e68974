// What convolutions and linear layers share after their product: bias, ReLU, and the way back
// through both.
#pragma once

#include <string>
#include <vector>

#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {

class LayerOutput {
 public:
  // `node` is the layer; `relu` the node whose ReLU is part of it, or -1.
  LayerOutput(int node, int relu) : node_(node), relu_(relu) {}
  int output() const { return relu_ >= 0 ? relu_ : node_; }

  // After the layer has defined `y`, the value of output().
  void plan_forward(Assembly& assembly, const Place& y);
  // Returns the gradient of the layer's product, dense; nobody else needs it any more.
  Place plan_backward(Assembly& assembly);
  bool has_bias() const { return bias_ >= 0; }
  int bias() const { return bias_; }  // parameter

  void bind(const Binding& where);
  void forward(Pass& pass);   // y = relu?(y + bias)
  void backward(Pass& pass);  // the product's gradient, and the bias's
  void ready(Pass& pass) const {
    if (bias_ >= 0) pass.ready(bias_);
  }

 private:
  const Kernels& kernels(Pass& pass) const {
    return y_place_.type == Type::kFloat ? pass.floats : pass.kernels;
  }

  int node_, relu_, bias_ = -1;
  std::string name_;
  Place y_place_, dy_place_, product_place_;
  int mask_slot_ = -1;
  Matrix y_, dy_, product_;
  std::uint8_t* mask_ = nullptr;
  const float* bias_values_ = nullptr;
  float *bias_gradient_ = nullptr, *partial_ = nullptr;
};

}  // namespace rackmark::worker::cuda
