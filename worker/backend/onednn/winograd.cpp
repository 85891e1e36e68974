#include "worker/backend/onednn/winograd.hpp"

#include <omp.h>

#include <algorithm>

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kLeastChannels = 32, kLeastTiles = 16;
// Products for each one of the direct kernel, counting what hangs over the edge.
constexpr double kMostProducts = 0.6;
// Of transformed pixels for each thread, about a core's own cache.
constexpr std::int64_t kWorkFloats = 128 * 1024;

int tiles_across(int pixels) { return (pixels + kWinogradTile - 1) / kWinogradTile; }

// For pictures in blocks of channels; null where this host has none for them.
const WinogradKernels* kernels_for(const Desc& pictures) {
  for (const int block : {8, 16})
    if (pictures == make_desc(dims_of(pictures), blocked_pictures(block)))
      return winograd_kernels(block);
  return nullptr;
}

}  // namespace

bool offers_winograd() { return winograd_kernels(channel_block()) != nullptr; }

std::optional<Winograd> Winograd::plan(const ConvolutionShape& shape) {
  const Dims src = dims_of(shape.src), dst = dims_of(shape.dst), kernel = dims_of(shape.weights);
  const WinogradKernels* kernels = kernels_for(shape.src);
  const bool fits = kernels != nullptr && kernel.size() == 4 && kernel[2] == 3 && kernel[3] == 3 &&
                    shape.strides == Dims{1, 1} && shape.pad_before == shape.pad_after &&
                    shape.pad_before[0] <= 2 && shape.pad_before[1] <= 2 &&
                    shape.dst == make_desc(dst, blocked_pictures(kernels->block));
  if (!fits || std::min(src[1], dst[1]) < kLeastChannels) return std::nullopt;
  Winograd plan;
  plan.kernels_ = kernels;
  const std::int64_t block = kernels->block;
  const auto small = [](dnnl::memory::dim value) { return static_cast<int>(value); };
  plan.batch_ = small(src[0]);
  plan.pad_h_ = small(shape.pad_before[0]), plan.pad_w_ = small(shape.pad_before[1]);
  plan.in_ = {(src[1] + block - 1) / block, small(src[2]), small(src[3])};
  plan.out_ = {(dst[1] + block - 1) / block, small(dst[2]), small(dst[3])};
  plan.tile_rows_ = tiles_across(plan.out_.height);
  plan.tile_columns_ = tiles_across(plan.out_.width);
  plan.threads_ = omp_get_max_threads();
  const double direct = 9.0 * plan.batch_ * plan.out_.height * plan.out_.width;
  const double products = static_cast<double>(kWinogradPoints * plan.tiles());
  if (plan.tiles() < kLeastTiles || products > kMostProducts * direct) return std::nullopt;
  plan.split();
  return plan;
}

Winograd Winograd::turned() const {
  Winograd other = *this;
  std::swap(other.in_, other.out_);
  other.turned_ = !turned_;
  other.pad_h_ = 2 - pad_h_, other.pad_w_ = 2 - pad_w_;
  other.tile_rows_ = tiles_across(other.out_.height);
  other.tile_columns_ = tiles_across(other.out_.width);
  other.split();
  return other;
}

// What is multiplied at a time should fit into the cache. But all transformed weights are read (or
// summed up) each time, so it should be no fewer tiles than weigh as much as they do; threads that
// have as many each need not wait for one another.
void Winograd::split() {
  const std::int64_t in = in_.blocks * block_size(), out = out_.blocks * block_size();
  const std::int64_t as_weights = in * out / (in + out);
  const std::int64_t fitting = kWorkFloats / (kWinogradPoints * (in + out));
  const auto into = [this](std::int64_t crews, std::int64_t at_once) {
    const std::int64_t each = (tiles() + crews - 1) / crews;
    const std::int64_t turns = (each + at_once - 1) / at_once;
    return Split{crews, (each + turns - 1) / turns};
  };
  together_ = into(1, std::max(as_weights, fitting * threads_));
  const bool apart = tiles() >= as_weights * threads_;
  convolving_ = apart ? into(threads_, std::max(as_weights, fitting)) : together_;
}

Winograd::Tile Winograd::tile(std::int64_t index) const {
  const std::int64_t plane = std::int64_t{tile_rows_} * tile_columns_;
  const auto inside = static_cast<int>(index % plane);
  return {static_cast<int>(index / plane), inside / tile_columns_ * kWinogradTile,
          inside % tile_columns_ * kWinogradTile};
}

inline Winograd::Tile Winograd::next(Tile tile) const {
  tile.column += kWinogradTile;
  if (tile.column < tile_columns_ * kWinogradTile) return tile;
  tile.column = 0;
  tile.row += kWinogradTile;
  if (tile.row < tile_rows_ * kWinogradTile) return tile;
  return {tile.image + 1, 0, 0};
}

// The threads that work on the same tiles, waiting for one another after every step: all of the
// team, or each one alone.
class Winograd::Crew {
 public:
  explicit Crew(bool alone)
      : index_(alone ? omp_get_thread_num() : 0),
        crews_(alone ? omp_get_num_threads() : 1),
        rank_(alone ? 0 : omp_get_thread_num()),
        size_(alone ? 1 : omp_get_num_threads()) {}
  std::int64_t index() const { return index_; }

  // work(first, count) for this crew's part of `tiles`, at most `at_once` at a time.
  template <class Work>
  void take_turns(std::int64_t tiles, std::int64_t at_once, const Work& work) const {
    const std::int64_t last = tiles * (index_ + 1) / crews_;
    std::int64_t count = 0;
    for (std::int64_t first = tiles * index_ / crews_; first < last; first += count) {
      count = std::min(at_once, last - first);
      work(first, count);
    }
  }
  // work(i) for this thread's part of 0 .. count - 1.
  template <class Work>
  void share(std::int64_t count, const Work& work) const {
    const std::int64_t last = count * (rank_ + 1) / size_;
    for (std::int64_t i = count * rank_ / size_; i < last; ++i) work(i);
    wait();
  }
  // work(block, t, tile) for this thread's part of `blocks` times `count` tiles from `first` on.
  template <class Work>
  void share_tiles(const Winograd& plan, std::int64_t blocks, std::int64_t first,
                   std::int64_t count, const Work& work) const {
    const std::int64_t last = blocks * count * (rank_ + 1) / size_;
    std::int64_t i = blocks * count * rank_ / size_;
    while (i < last) {
      const std::int64_t block = i / count, end = std::min(last, (block + 1) * count);
      Tile tile = plan.tile(first + i % count);
      for (; i < end; ++i, tile = plan.next(tile)) work(block, i - block * count, tile);
    }
    wait();
  }

 private:
  void wait() const {
    if (size_ == 1) return;
#pragma omp barrier
  }

  std::int64_t index_, crews_, rank_, size_;
};

void Winograd::transform(const float* weights, float* points) const {
  const std::int64_t kernel = 9 * block_size() * block_size();
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (std::int64_t out = 0; out < out_.blocks; ++out) {
    for (std::int64_t in = 0; in < in_.blocks; ++in) {
      const std::int64_t at = turned_ ? in * out_.blocks + out : out * in_.blocks + in;
      kernels_->weights(weights + at * kernel, turned_, points + kernel_at(out, in), weight_step(),
                        panel_width());
    }
  }
}

WinogradProduct Winograd::product_of(std::int64_t panel) const {
  WinogradProduct product{};
  product.b_step = product.result_row = panel_width();
  product.vectors = static_cast<int>(std::min<std::int64_t>(2, out_.blocks - 2 * panel));
  return product;
}

void Winograd::load_sources(const Crew& crew, const float* x, std::int64_t first,
                            std::int64_t count, float* to) const {
  crew.share_tiles(*this, in_.blocks, first, count,
                   [&](std::int64_t block, std::int64_t t, const Tile& at) {
                     kernels_->source(x + (at.image * in_.blocks + block) * plane(in_),
                                      {in_.height, in_.width, at.row - pad_h_, at.column - pad_w_},
                                      to + t * in_row() + block * block_size(), in_step());
                   });
}

void Winograd::multiply(const Crew& crew, const float* sources, std::int64_t count,
                        const float* points, float* results) const {
  crew.share(kWinogradPoints * out_panels(), [&](std::int64_t task) {
    const std::int64_t point = task / out_panels(), panel = task % out_panels();
    WinogradProduct product = product_of(panel);
    product.a = sources + point * in_step();
    product.a_row = in_row(), product.a_step = 1;
    product.b = points + weight_panel(point, panel);
    product.result = results + out_panel(point, panel);
    product.rows = static_cast<int>(count);
    product.depth = static_cast<int>(in_.blocks * block_size());
    kernels_->multiply(product);
  });
}

void Winograd::convolve(const float* x, const float* points, const ConvolutionEnd& end, float* y,
                        float* work) const {
#pragma omp parallel num_threads(threads_)
  {
    const Crew crew(convolving_.crews > 1);
    float* sources = work + crew.index() * kWinogradPoints * (in_step() + out_step());
    float* results = sources + kWinogradPoints * in_step();
    crew.take_turns(tiles(), convolving_.at_once, [&](std::int64_t first, std::int64_t count) {
      load_sources(crew, x, first, count, sources);
      multiply(crew, sources, count, points, results);
      crew.share_tiles(*this, out_.blocks, first, count,
                       [&](std::int64_t block, std::int64_t t, const Tile& at) {
                         ConvolutionEnd here = end;
                         if (end.bias != nullptr) here.bias = end.bias + block * block_size();
                         kernels_->result(out_at(results, block, t), out_step(), here,
                                          y + (at.image * out_.blocks + block) * plane(out_),
                                          {out_.height, out_.width, at.row, at.column});
                       });
    });
  }
}

void Winograd::add_products(const Crew& crew, const float* sources, const float* gradients,
                            std::int64_t count, bool add, float* points) const {
  crew.share(kWinogradPoints * out_panels(), [&](std::int64_t task) {
    const std::int64_t point = task / out_panels(), panel = task % out_panels();
    WinogradProduct product = product_of(panel);
    product.a = sources + point * in_step();
    product.a_row = 1, product.a_step = in_row();
    product.b = gradients + out_panel(point, panel);
    product.result = points + weight_panel(point, panel);
    product.rows = static_cast<int>(in_.blocks * block_size());
    product.depth = static_cast<int>(count);
    product.add = add;
    kernels_->multiply(product);
  });
}

// Every thread owns points, so nobody's sums wait for another's; what is summed at a time follows
// from the number of threads.
void Winograd::weight_gradient(const float* x, const float* dy, float* dw, float* points,
                               float* work) const {
  float* sources = work;
  float* gradients = work + kWinogradPoints * in_step();
#pragma omp parallel num_threads(threads_)
  {
    const Crew crew(false);
    crew.take_turns(tiles(), together_.at_once, [&](std::int64_t first, std::int64_t count) {
      load_sources(crew, x, first, count, sources);
      crew.share_tiles(*this, out_.blocks, first, count,
                       [&](std::int64_t block, std::int64_t t, const Tile& at) {
                         kernels_->gradient(dy + (at.image * out_.blocks + block) * plane(out_),
                                            {out_.height, out_.width, at.row, at.column},
                                            out_at(gradients, block, t), out_step());
                       });
      add_products(crew, sources, gradients, count, first > 0, points);
    });
    crew.share(out_.blocks * in_.blocks, [&](std::int64_t pair) {
      kernels_->weight_gradient(points + kernel_at(pair / in_.blocks, pair % in_.blocks),
                                weight_step(), panel_width(),
                                dw + pair * 9 * block_size() * block_size());
    });
  }
}

}  // namespace rackmark::worker::onednn
