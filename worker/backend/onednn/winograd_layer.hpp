// The three passes of a convolution in training by Winograd's algorithm (winograd.hpp), with what
// they read and write.
#pragma once

#include <optional>
#include <vector>

#include "worker/backend/onednn/op.hpp"
#include "worker/backend/onednn/winograd.hpp"

namespace rackmark::worker::onednn {

class WinogradLayer {
 public:
  // Nothing where oneDNN is the better choice: see Winograd::plan(), and where the plan's weights
  // have another layout than blocked_weights(). `shape` as the plan stores it.
  static std::optional<WinogradLayer> plan(Assembly& assembly, const ConvolutionShape& shape,
                                           const Desc& weights);
  const char* name() const { return forward_.name(); }
  void plan_data(Assembly& assembly);  // the gradient of the input is wanted, too

  struct Places {
    const float *x, *x_in_backward, *weights;
    const float* bias;  // null: none
    float* y;
    const float* dy;
    float *dx, *weight_gradient;
  };
  void bind(const Binding& where, const Places& at);

  // forward() and backward_data() read the weights as they are then.
  void forward();
  void backward_weights() const;
  void backward_data() const;

 private:
  explicit WinogradLayer(const Winograd& forward) : forward_(forward) {}
  static void need_scratch(Assembly& assembly, const Winograd& winograd);

  Winograd forward_;
  std::optional<Winograd> data_;
  Places at_{};
  float* points_ = nullptr;         // transformed weights, in the scratch memory
  std::int64_t channels_ = 0;       // of the output
  std::vector<float> padded_bias_;  // zeros in the channels that fill the last block
};

}  // namespace rackmark::worker::onednn
