// Convolutions of 3x3 and stride 1 over whole batches by the kernels of kernels/winograd.hpp: a
// block of tiles at a time is transformed, multiplied at each of its 36 points, and transformed
// back. Takes about a third of the direct kernels' products and rounds differently, relative 1e-6.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/kernels/winograd.hpp"

namespace rackmark::worker::onednn {

// Whether fusion "winograd" means anything on this host: oneDNN's with AVX-512, ours with AVX2.
bool offers_winograd();

class Winograd {
 public:
  // For pictures in nChw8c and weights in OIhw8i8o, all float32; nothing where the host lacks the
  // kernels, the shape is not for them, or the direct kernel is about as fast: few tiles or
  // channels, or tiles that mostly hang over the edge. By shape, never by timing, so that all ranks
  // and all runs choose alike. Work is made for the threads of the calling scope.
  static std::optional<Winograd> plan(const ConvolutionShape& shape);
  // The convolution that makes the gradient of this one's input out of that of its output.
  Winograd turned() const;

  // Floats that the callers of the functions below provide.
  std::int64_t point_floats() const { return kWinogradPoints * weight_step(); }  // of weights
  std::int64_t work_floats() const { return kWinogradPoints * (in_step() + out_step()); }

  // `weights` as the forward pass has them, also when turned.
  void transform(const float* weights, float* points) const;
  // With bias (padded to whole blocks) and the rest of `end`; y is overwritten unless end.sum.
  void convolve(const float* x, const float* points, const WinogradEnd& end, float* y,
                float* work) const;
  // dw is overwritten; `points` is work memory. Not when turned.
  void weight_gradient(const float* x, const float* dy, float* dw, float* points,
                       float* work) const;

 private:
  struct Picture {
    std::int64_t blocks = 0;  // of 8 channels
    int height = 0, width = 0;
    std::int64_t plane() const { return std::int64_t{height} * width * 8; }
  };
  struct Tile {
    int image, row, column;  // of the output, in pixels
  };
  Tile tile(std::int64_t index) const;
  std::int64_t tiles() const { return std::int64_t{batch_} * tile_rows_ * tile_columns_; }
  std::int64_t out_panels() const { return (out_.blocks + 1) / 2; }
  // Floats from one point to the next; a line more than needed, so that the points of a tile do not
  // compete for the same lines of the cache.
  std::int64_t in_row() const { return in_.blocks * 8 + 8; }
  std::int64_t in_step() const { return block_ * in_row() + 16; }
  std::int64_t out_step() const { return block_ * out_panels() * 16 + 16; }
  std::int64_t weight_step() const { return in_.blocks * 8 * out_panels() * 16 + 16; }
  float* out_at(float* points, std::int64_t block, std::int64_t tile) const {
    return points + ((block / 2) * block_ + tile) * 16 + block % 2 * 8;
  }
  // Where two blocks of output channels begin, among transformed weights and among output tiles.
  std::int64_t weight_panel(std::int64_t point, std::int64_t panel) const {
    return point * weight_step() + panel * in_.blocks * 8 * 16;
  }
  std::int64_t out_panel(std::int64_t point, std::int64_t panel) const {
    return point * out_step() + panel * block_ * 16;
  }
  WinogradProduct product_of(std::int64_t panel) const;  // what does not depend on the pass
  void load_sources(const float* x, std::int64_t first, std::int64_t count, float* to) const;

  int batch_ = 0, pad_h_ = 0, pad_w_ = 0;
  Picture in_, out_;
  bool turned_ = false;
  int tile_rows_ = 0, tile_columns_ = 0;
  std::int64_t block_ = 0;  // tiles at a time
  int threads_ = 1;
};

}  // namespace rackmark::worker::onednn
