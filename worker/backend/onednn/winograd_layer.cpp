#include "worker/backend/onednn/winograd_layer.hpp"

#include <algorithm>

namespace rackmark::worker::onednn {

std::optional<WinogradLayer> WinogradLayer::plan(Assembly& assembly, const ConvolutionShape& shape,
                                                 const Desc& weights) {
  const bool wanted = assembly.winograd &&
                      weights == make_desc(dims_of(shape.weights), blocked_weights(assembly.block));
  if (!wanted) return std::nullopt;
  const auto forward = Winograd::plan(shape);
  if (!forward) return std::nullopt;
  need_scratch(assembly, *forward);
  WinogradLayer layer(*forward);
  layer.channels_ = dims_of(shape.dst)[1];
  if (shape.has_bias) {
    const std::int64_t block = forward->block_size();
    layer.padded_bias_.assign((layer.channels_ + block - 1) / block * block, 0.0F);
  }
  return layer;
}

void WinogradLayer::plan_data(Assembly& assembly) {
  data_ = forward_.turned();
  need_scratch(assembly, *data_);
}

void WinogradLayer::need_scratch(Assembly& assembly, const Winograd& winograd) {
  assembly.need_scratch((winograd.point_floats() + winograd.work_floats()) *
                        std::int64_t{sizeof(float)});
}

void WinogradLayer::bind(const Binding& where, const Places& at) {
  at_ = at;
  points_ = reinterpret_cast<float*>(where.scratch);
}

void WinogradLayer::forward() {
  ConvolutionEnd end{};
  if (at_.bias != nullptr) {
    std::copy_n(at_.bias, channels_, padded_bias_.begin());
    end.bias = padded_bias_.data();
  }
  forward_.transform(at_.weights, points_);
  forward_.convolve(at_.x, points_, end, at_.y, points_ + forward_.point_floats());
}

void WinogradLayer::backward_weights() const {
  forward_.weight_gradient(at_.x_in_backward, at_.dy, at_.weight_gradient, points_,
                           points_ + forward_.point_floats());
}

void WinogradLayer::backward_data() const {
  data_->transform(at_.weights, points_);
  data_->convolve(at_.dy, points_, {}, at_.dx, points_ + data_->point_floats());
}

}  // namespace rackmark::worker::onednn
