// Gradient of a convolution's weights over whole batches, by the kernel of
// kernels/weight_gradient.hpp.
#pragma once

#include <optional>

#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {

class WeightGradient {
 public:
  // For a convolution whose gradient oneDNN makes by `made`; nothing where that is the better
  // choice: with other layouts or types than nChw8c, OIhw8i8o and float32, without AVX2, for 1x1
  // kernels, and where oneDNN would not run its plain AVX2 kernel. `shape` as the plan stores it.
  static std::optional<WeightGradient> plan(Assembly& assembly, const ConvolutionShape& shape,
                                            const Made& made);

  // dw is overwritten; all in the layouts that plan() was given.
  void run(const float* x, const float* dy, float* dw) const;
  void bind(std::byte* scratch) { scratch_ = reinterpret_cast<float*>(scratch); }

 private:
  void run_part(const float* x, const float* dy, float* dw, float* padded, std::int64_t in_block,
                std::int64_t first_out, std::int64_t last_out) const;
  const float* with_padding(const float* x, float* padded, std::int64_t in_block, int image,
                            int images) const;

  int batch_ = 0, in_height_ = 0, in_width_ = 0, out_height_ = 0, out_width_ = 0;
  int kernel_h_ = 0, kernel_w_ = 0, stride_ = 1, pad_h_ = 0, pad_w_ = 0;
  std::int64_t in_blocks_ = 0, out_blocks_ = 0;
  int images_ = 1, rows_ = 0;  // worked on at a time: what fits into a core's cache
  int threads_ = 1;
  float* scratch_ = nullptr;  // one padded copy of `images_` planes for each thread
};

}  // namespace rackmark::worker::onednn
