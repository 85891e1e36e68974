// Convolutions of 3x3 and stride 1 over whole batches by the kernels of kernels/winograd.hpp: a
// block of tiles at a time is transformed, multiplied at each of its 36 points, and transformed
// back. Takes about a third of the direct kernels' products and rounds differently, relative 1e-6.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/kernels/winograd.hpp"

namespace rackmark::worker::onednn {

// Whether fusion "winograd" means anything on this host: it has kernels for its blocks of channels.
bool offers_winograd();

class Winograd {
 public:
  // For pictures and weights in blocks of 8 or 16 channels, all float32; nothing where the host
  // lacks the kernels, the shape is not for them, or the direct kernel is about as fast: few tiles
  // or channels, or tiles that mostly hang over the edge. By shape, never by timing, so that all
  // ranks and all runs choose alike. Work is made for the threads of the calling scope.
  static std::optional<Winograd> plan(const ConvolutionShape& shape);
  const char* name() const { return kernels_->name; }
  std::int64_t block_size() const { return kernels_->block; }  // channels
  // The convolution that makes the gradient of this one's input out of that of its output.
  Winograd turned() const;

  // Floats that the callers of the functions below provide.
  std::int64_t point_floats() const { return kWinogradPoints * weight_step(); }  // of weights
  std::int64_t work_floats() const {
    return convolving_.crews * kWinogradPoints * (in_step() + out_step());
  }

  // `weights` as the forward pass has them, also when turned.
  void transform(const float* weights, float* points) const;
  // With bias (padded to whole blocks) and the rest of `end`; y is overwritten unless end.sum.
  void convolve(const float* x, const float* points, const ConvolutionEnd& end, float* y,
                float* work) const;
  // dw is overwritten; `points` is work memory. Not when turned.
  void weight_gradient(const float* x, const float* dy, float* dw, float* points,
                       float* work) const;

 private:
  struct Picture {
    std::int64_t blocks = 0;  // of channels
    int height = 0, width = 0;
  };
  struct Tile {
    int image, row, column;  // of the output, in pixels
  };
  // How the tiles are worked off: by all threads together or by each alone, so many at a time.
  struct Split {
    std::int64_t crews = 1, at_once = 0;
  };
  class Crew;
  void split();
  Tile tile(std::int64_t index) const;
  Tile next(Tile tile) const;
  std::int64_t tiles() const { return std::int64_t{batch_} * tile_rows_ * tile_columns_; }
  std::int64_t plane(const Picture& picture) const {
    return std::int64_t{picture.height} * picture.width * block_size();
  }
  // Two blocks of output channels, which are multiplied at once.
  std::int64_t out_panels() const { return (out_.blocks + 1) / 2; }
  std::int64_t panel_width() const { return 2 * block_size(); }
  // Floats from one point to the next; a line more than needed, so that the points of a tile do not
  // compete for the same lines of the cache.
  std::int64_t in_row() const { return (in_.blocks + 1) * block_size(); }
  std::int64_t most_at_once() const { return std::max(convolving_.at_once, together_.at_once); }
  std::int64_t in_step() const { return most_at_once() * in_row() + 16; }
  std::int64_t out_step() const { return most_at_once() * out_panels() * panel_width() + 16; }
  std::int64_t weight_step() const {
    return in_.blocks * block_size() * out_panels() * panel_width() + 16;
  }
  float* out_at(float* points, std::int64_t block_index, std::int64_t tile) const {
    return points + ((block_index / 2) * most_at_once() + tile) * panel_width() +
           block_index % 2 * block_size();
  }
  // Where two blocks of output channels begin, among transformed weights and among output tiles.
  std::int64_t weight_panel(std::int64_t point, std::int64_t panel) const {
    return point * weight_step() + panel * in_.blocks * block_size() * panel_width();
  }
  std::int64_t out_panel(std::int64_t point, std::int64_t panel) const {
    return point * out_step() + panel * most_at_once() * panel_width();
  }
  // Where the kernel from one block of input channels to one of output channels lies in it.
  std::int64_t kernel_at(std::int64_t out, std::int64_t in) const {
    return ((out / 2) * in_.blocks + in) * block_size() * panel_width() + out % 2 * block_size();
  }
  WinogradProduct product_of(std::int64_t panel) const;  // what does not depend on the pass
  void load_sources(const Crew& crew, const float* x, std::int64_t first, std::int64_t count,
                    float* to) const;
  void multiply(const Crew& crew, const float* sources, std::int64_t count, const float* points,
                float* results) const;
  void add_products(const Crew& crew, const float* sources, const float* gradients,
                    std::int64_t count, bool add, float* points) const;

  const WinogradKernels* kernels_ = nullptr;
  int batch_ = 0, pad_h_ = 0, pad_w_ = 0;
  Picture in_, out_;
  bool turned_ = false;
  int tile_rows_ = 0, tile_columns_ = 0;
  Split convolving_, together_;  // the latter sums up weight gradients
  int threads_ = 1;
};

}  // namespace rackmark::worker::onednn
