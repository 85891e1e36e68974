// Convolutions over whole batches by the kernel of kernels/direct.hpp: some pictures at a time are
// copied with zeros around them, then every pair of blocks of output channels goes over their rows.
// Sums run over input channels and taps in one order, so results do not depend on the threads.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/kernels/convolution_end.hpp"
#include "worker/backend/onednn/kernels/direct.hpp"

namespace rackmark::worker::onednn {

class DirectConvolution {
 public:
  // For pictures in nChw16c, all float32; nothing where the host lacks the kernel or oneDNN's is as
  // fast: 1x1 kernels, few input channels, rows of the output that are long or no multiple of 7. By
  // shape, never by timing. Work is made for the threads of the calling scope.
  static std::optional<DirectConvolution> plan(const ConvolutionShape& shape);

  // Floats that the callers of the functions below provide.
  std::int64_t weight_floats() const { return panels() * panel_floats(); }
  std::int64_t bias_floats() const { return panels() * 2 * kDirectBlock; }
  std::int64_t work_floats() const { return images_ * image_floats(); }

  // From OIhw16i16o.
  void arrange(const float* weights, float* to) const;
  // y is overwritten unless end.sum. The bias has bias_floats().
  void convolve(const float* x, const float* arranged, const ConvolutionEnd& end, float* y,
                float* work) const;

 private:
  std::int64_t panels() const { return (out_blocks_ + 1) / 2; }
  std::int64_t taps() const { return std::int64_t{kernel_h_} * kernel_w_; }
  std::int64_t panel_floats() const {
    return in_blocks_ * taps() * kDirectBlock * 2 * kDirectBlock;
  }
  int padded_height() const { return in_height_ + 2 * pad_h_; }
  int padded_width() const { return in_width_ + 2 * pad_w_; }
  std::int64_t padded_plane() const {
    return std::int64_t{padded_height()} * padded_width() * kDirectBlock;
  }
  std::int64_t image_floats() const { return in_blocks_ * padded_plane(); }
  std::int64_t width_of(std::int64_t panel) const {  // output channels
    return 2 * panel + 1 < out_blocks_ ? 2 * kDirectBlock : kDirectBlock;
  }
  void pad(const float* plane, float* to) const;
  struct Rows {
    int first, last;
  };
  void work_off(Rows rows, const float* padded, const float* arranged, std::int64_t panel,
                const ConvolutionEnd& end, float* y) const;

  std::int64_t batch_ = 0, in_blocks_ = 0, out_blocks_ = 0;
  int in_height_ = 0, in_width_ = 0, out_height_ = 0, out_width_ = 0;
  int kernel_h_ = 0, kernel_w_ = 0, stride_ = 1, pad_h_ = 0, pad_w_ = 0;
  std::int64_t images_ = 1;  // at a time
  int threads_ = 1;
};

}  // namespace rackmark::worker::onednn
