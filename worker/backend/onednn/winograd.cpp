#include "worker/backend/onednn/winograd.hpp"

#include <omp.h>

#include <algorithm>

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kPanel = 2 * kWinogradBlock;
constexpr std::int64_t kLeastChannels = 32, kLeastTiles = 16;
// Products for each one of the direct kernel, counting what hangs over the edge.
constexpr double kMostProducts = 0.6;
// Of transformed pixels for each thread, about a core's share of the cache.
constexpr std::int64_t kWorkFloats = 256 * 1024;
constexpr std::int64_t kLeastBlock = 48, kMostBlock = 4096;

int tiles_across(int pixels) { return (pixels + kWinogradTile - 1) / kWinogradTile; }

}  // namespace

bool offers_winograd() {
  return has_winograd() || (has_winograd_kernels() && !prefers_blocks_of_16());
}

std::optional<Winograd> Winograd::plan(const ConvolutionShape& shape) {
  const Dims src = dims_of(shape.src), dst = dims_of(shape.dst), kernel = dims_of(shape.weights);
  const bool fits = has_winograd_kernels() && kernel.size() == 4 && kernel[2] == 3 &&
                    kernel[3] == 3 && shape.strides == Dims{1, 1} &&
                    shape.pad_before == shape.pad_after && shape.pad_before[0] <= 2 &&
                    shape.pad_before[1] <= 2 && shape.src == make_desc(src, Tag::nChw8c) &&
                    shape.dst == make_desc(dst, Tag::nChw8c);
  if (!fits || std::min(src[1], dst[1]) < kLeastChannels) return std::nullopt;
  Winograd plan;
  const auto small = [](dnnl::memory::dim value) { return static_cast<int>(value); };
  plan.batch_ = small(src[0]);
  plan.pad_h_ = small(shape.pad_before[0]), plan.pad_w_ = small(shape.pad_before[1]);
  plan.in_ = {(src[1] + kWinogradBlock - 1) / kWinogradBlock, small(src[2]), small(src[3])};
  plan.out_ = {(dst[1] + kWinogradBlock - 1) / kWinogradBlock, small(dst[2]), small(dst[3])};
  plan.tile_rows_ = tiles_across(plan.out_.height);
  plan.tile_columns_ = tiles_across(plan.out_.width);
  plan.threads_ = omp_get_max_threads();
  const double direct = 9.0 * plan.batch_ * plan.out_.height * plan.out_.width;
  const double products = static_cast<double>(kWinogradPoints * plan.tiles());
  if (plan.tiles() < kLeastTiles || products > kMostProducts * direct) return std::nullopt;
  const std::int64_t channels = kWinogradBlock * (plan.in_.blocks + plan.out_.blocks);
  plan.block_ = std::clamp(kWorkFloats * plan.threads_ / (kWinogradPoints * channels), kLeastBlock,
                           kMostBlock);
  plan.block_ = std::min(plan.block_, plan.tiles());
  return plan;
}

Winograd Winograd::turned() const {
  Winograd other = *this;
  std::swap(other.in_, other.out_);
  other.turned_ = !turned_;
  other.pad_h_ = 2 - pad_h_, other.pad_w_ = 2 - pad_w_;
  other.tile_rows_ = tiles_across(other.out_.height);
  other.tile_columns_ = tiles_across(other.out_.width);
  other.block_ = std::min(block_, other.tiles());
  return other;
}

Winograd::Tile Winograd::tile(std::int64_t index) const {
  const std::int64_t plane = std::int64_t{tile_rows_} * tile_columns_;
  const auto inside = static_cast<int>(index % plane);
  return {static_cast<int>(index / plane), inside / tile_columns_ * kWinogradTile,
          inside % tile_columns_ * kWinogradTile};
}

void Winograd::transform(const float* weights, float* points) const {
  const std::int64_t kernel = 9 * kWinogradBlock * kWinogradBlock;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (std::int64_t out = 0; out < out_.blocks; ++out) {
    for (std::int64_t in = 0; in < in_.blocks; ++in) {
      const std::int64_t at = turned_ ? in * out_.blocks + out : out * in_.blocks + in;
      float* to = points + ((out / 2) * in_.blocks + in) * kWinogradBlock * kPanel +
                  out % 2 * kWinogradBlock;
      winograd_weights(weights + at * kernel, turned_, to, weight_step(), kPanel);
    }
  }
}

WinogradProduct Winograd::product_of(std::int64_t panel) const {
  WinogradProduct product{};
  product.b_step = product.result_row = kPanel;
  product.vectors = static_cast<int>(std::min<std::int64_t>(2, out_.blocks - 2 * panel));
  return product;
}

// To be called by all threads of a team.
void Winograd::load_sources(const float* x, std::int64_t first, std::int64_t count,
                            float* to) const {
#pragma omp for collapse(2) schedule(static)
  for (std::int64_t block = 0; block < in_.blocks; ++block) {
    for (std::int64_t t = 0; t < count; ++t) {
      const Tile at = tile(first + t);
      winograd_source(x + (at.image * in_.blocks + block) * in_.plane(),
                      {in_.height, in_.width, at.row - pad_h_, at.column - pad_w_},
                      to + t * in_row() + block * kWinogradBlock, in_step());
    }
  }
}

void Winograd::convolve(const float* x, const float* points, const WinogradEnd& end, float* y,
                        float* work) const {
  float* sources = work;
  float* results = work + kWinogradPoints * in_step();
#pragma omp parallel num_threads(threads_)
  for (std::int64_t first = 0; first < tiles(); first += block_) {
    const std::int64_t count = std::min(block_, tiles() - first);
    load_sources(x, first, count, sources);
#pragma omp for collapse(2) schedule(static)
    for (int point = 0; point < kWinogradPoints; ++point) {
      for (std::int64_t panel = 0; panel < out_panels(); ++panel) {
        WinogradProduct product = product_of(panel);
        product.a = sources + point * in_step();
        product.a_row = in_row(), product.a_step = 1;
        product.b = points + weight_panel(point, panel);
        product.result = results + out_panel(point, panel);
        product.rows = static_cast<int>(count);
        product.depth = static_cast<int>(in_.blocks * kWinogradBlock);
        winograd_multiply(product);
      }
    }
#pragma omp for collapse(2) schedule(static)
    for (std::int64_t block = 0; block < out_.blocks; ++block) {
      for (std::int64_t t = 0; t < count; ++t) {
        const Tile at = tile(first + t);
        WinogradEnd here = end;
        if (end.bias != nullptr) here.bias = end.bias + block * kWinogradBlock;
        winograd_result(out_at(results, block, t), out_step(), here,
                        y + (at.image * out_.blocks + block) * out_.plane(),
                        {out_.height, out_.width, at.row, at.column});
      }
    }
  }
}

// Every thread owns points, so nobody's sums wait for another's; what is summed at a time follows
// from block_, and with it from the number of threads.
void Winograd::weight_gradient(const float* x, const float* dy, float* dw, float* points,
                               float* work) const {
  float* sources = work;
  float* gradients = work + kWinogradPoints * in_step();
#pragma omp parallel num_threads(threads_)
  {
    for (std::int64_t first = 0; first < tiles(); first += block_) {
      const std::int64_t count = std::min(block_, tiles() - first);
      load_sources(x, first, count, sources);
#pragma omp for collapse(2) schedule(static)
      for (std::int64_t block = 0; block < out_.blocks; ++block) {
        for (std::int64_t t = 0; t < count; ++t) {
          const Tile at = tile(first + t);
          winograd_gradient(dy + (at.image * out_.blocks + block) * out_.plane(),
                            {out_.height, out_.width, at.row, at.column},
                            out_at(gradients, block, t), out_step());
        }
      }
#pragma omp for collapse(2) schedule(static)
      for (int point = 0; point < kWinogradPoints; ++point) {
        for (std::int64_t panel = 0; panel < out_panels(); ++panel) {
          WinogradProduct product = product_of(panel);
          product.a = sources + point * in_step();
          product.a_row = 1, product.a_step = in_row();
          product.b = gradients + out_panel(point, panel);
          product.result = points + weight_panel(point, panel);
          product.rows = static_cast<int>(in_.blocks * kWinogradBlock);
          product.depth = static_cast<int>(count);
          product.add = first > 0;
          winograd_multiply(product);
        }
      }
    }
#pragma omp for collapse(2) schedule(static)
    for (std::int64_t out = 0; out < out_.blocks; ++out) {
      for (std::int64_t in = 0; in < in_.blocks; ++in) {
        const float* from = points + ((out / 2) * in_.blocks + in) * kWinogradBlock * kPanel +
                            out % 2 * kWinogradBlock;
        winograd_weight_gradient(
            from, weight_step(), kPanel,
            dw + (out * in_.blocks + in) * 9 * kWinogradBlock * kWinogradBlock);
      }
    }
  }
}

}  // namespace rackmark::worker::onednn
