#include "worker/backend/cuda/plan/layer_output.hpp"

#include <variant>

namespace rackmark::worker::cuda {
namespace {

bool layer_has_bias(const Layer& layer) {
  if (const auto* convolution = std::get_if<Conv2d>(&layer)) return convolution->bias;
  return std::get<Linear>(layer).bias;
}

}  // namespace

void LayerOutput::plan_forward(Assembly& assembly, const Place& y) {
  name_ = assembly.node(node_).name;
  y_place_ = y;
  if (layer_has_bias(assembly.node(node_).layer)) {
    bias_ = assembly.parameter(node_, "bias");
    assembly.layouts[bias_] = plain_layout(assembly.net.parameters()[bias_]);
  }
  if (relu_ >= 0) mask_slot_ = assembly.add_buffer(mask_bytes(y.rows, y.channels));
}

Place LayerOutput::plan_backward(Assembly& assembly) {
  dy_place_ = product_place_ = assembly.take_gradient(output());
  if (!dy_place_.is_dense()) {
    product_place_ = assembly.add_place(dy_place_.rows, dy_place_.channels, dy_place_.type);
  }
  if (mask_slot_ >= 0) assembly.arena.use(mask_slot_, assembly.event);
  if (bias_ >= 0) {
    const int blocks = sum_blocks(dy_place_.rows, dy_place_.channels);
    assembly.need_scratch(std::int64_t{blocks} * dy_place_.channels * 4);
  }
  return product_place_;
}

void LayerOutput::bind(const Binding& where) {
  y_ = where.matrix(y_place_);
  dy_ = where.matrix(dy_place_);
  product_ = where.matrix(product_place_);
  mask_ = where.mask(mask_slot_);
  if (bias_ < 0) return;
  bias_values_ = where.parameters[bias_];
  bias_gradient_ = where.gradients[bias_];
  partial_ = static_cast<float*>(where.scratch);
}

void LayerOutput::forward(Pass& pass) {
  if (bias_ < 0 && relu_ < 0) return;
  const double bytes = 2.0 * static_cast<double>(y_place_.bytes());
  if (bias_ >= 0) {
    pass.run(name_, "forward", "add_bias", kernels(pass).add_bias, bytes,
             {y_, y_, bias_values_, relu_ >= 0, pass.training ? mask_ : nullptr});
  } else {
    pass.run(name_, "forward", "rectify", kernels(pass).rectify, bytes,
             {y_, y_, pass.training ? mask_ : nullptr});
  }
}

void LayerOutput::backward(Pass& pass) {
  const double bytes = static_cast<double>(dy_place_.bytes());
  if (relu_ >= 0) {
    pass.run(name_, "backward_data", "rectify_backward", pass.kernels.rectify_backward, 2 * bytes,
             {dy_, product_, mask_, false});
  } else if (product_.data != dy_.data) {
    pass.run(name_, "backward_data", "copy", pass.kernels.copy, 2 * bytes, {dy_, product_});
  }
  if (bias_ < 0) return;
  pass.run(name_, "backward_weights", "bias_sums", pass.kernels.bias_sums, bytes,
           {product_, partial_});
  pass.run(name_, "backward_weights", "bias_gradient", pass.kernels.bias_gradient, 0,
           {partial_, product_.rows, product_.channels, bias_gradient_});
}

}  // namespace rackmark::worker::cuda
