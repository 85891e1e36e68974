#include "worker/backend/onednn/weight_gradient.hpp"

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "worker/backend/onednn/kernels/weight_gradient.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kBlock = 8;
constexpr std::int64_t kCacheFloats = 48 * 1024;  // 192 KiB of a core's second-level cache
constexpr std::int64_t kPartsPerThread = 4;

}  // namespace

std::optional<WeightGradient> WeightGradient::plan(Assembly& assembly,
                                                   const ConvolutionShape& shape,
                                                   const Made& made) {
  const Dims src = dims_of(shape.src), dst = dims_of(shape.dst), kernel = dims_of(shape.weights);
  const bool fits = has_weight_gradient() && assembly.block == kBlock &&
                    assembly.stored == DataType::f32 && made.implementation == "jit:avx2" &&
                    kernel[2] * kernel[3] > 1 && shape.strides[0] == shape.strides[1] &&
                    shape.src == make_desc(src, Tag::nChw8c) && made.src == shape.src &&
                    shape.dst == make_desc(dst, Tag::nChw8c) && made.dst == shape.dst &&
                    made.weights == make_desc(kernel, Tag::OIhw8i8o);
  if (!fits) return std::nullopt;
  const auto small = [](dnnl::memory::dim value) { return static_cast<int>(value); };
  WeightGradient plan;
  plan.batch_ = small(src[0]);
  plan.in_height_ = small(src[2]), plan.in_width_ = small(src[3]);
  plan.out_height_ = small(dst[2]), plan.out_width_ = small(dst[3]);
  plan.kernel_h_ = small(kernel[2]), plan.kernel_w_ = small(kernel[3]);
  plan.stride_ = small(shape.strides[0]);
  plan.pad_h_ = small(shape.pad_before[0]), plan.pad_w_ = small(shape.pad_before[1]);
  plan.in_blocks_ = (src[1] + kBlock - 1) / kBlock;
  plan.out_blocks_ = (dst[1] + kBlock - 1) / kBlock;
  const std::int64_t padded_width = plan.in_width_ + 2 * plan.pad_w_;
  const std::int64_t row = (2 * plan.out_width_ + plan.stride_ * padded_width) * kBlock;
  const std::int64_t rows = std::max<std::int64_t>(1, kCacheFloats / row);
  plan.rows_ = small(std::min<std::int64_t>(plan.out_height_, rows));
  plan.images_ = small(std::clamp<std::int64_t>(rows / plan.out_height_, 1, plan.batch_));
  plan.threads_ = omp_get_max_threads();
  if (plan.pad_w_ > 0) {
    assembly.need_scratch(plan.threads_ * plan.images_ * plan.in_height_ * padded_width * kBlock *
                          std::int64_t{sizeof(float)});
  }
  return plan;
}

// Every task owns its weights, so the order of sums, and with it every bit, is the same each time
// with any number of threads.
void WeightGradient::run(const float* x, const float* dy, float* dw) const {
  const std::int64_t pairs = (out_blocks_ + 1) / 2;
  const std::int64_t parts =
      std::min(pairs, (kPartsPerThread * threads_ + in_blocks_ - 1) / in_blocks_);
  const std::int64_t padded_plane =
      std::int64_t{in_height_} * (in_width_ + 2 * pad_w_) * kBlock * images_;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < in_blocks_ * parts; ++task) {
    const std::int64_t part = task % parts;
    run_part(x, dy, dw, scratch_ + omp_get_thread_num() * padded_plane, task / parts,
             2 * (pairs * part / parts), std::min(out_blocks_, 2 * (pairs * (part + 1) / parts)));
  }
}

void WeightGradient::run_part(const float* x, const float* dy, float* dw, float* padded,
                              std::int64_t in_block, std::int64_t first_out,
                              std::int64_t last_out) const {
  const std::int64_t taps = std::int64_t{kernel_h_} * kernel_w_ * kBlock * kBlock;
  const std::int64_t out_plane = std::int64_t{out_height_} * out_width_ * kBlock;
  WeightGradientTask t{};
  t.dy_image = out_blocks_ * out_plane, t.dy_block = out_plane, t.dy_width = out_width_;
  t.dw_block = in_blocks_ * taps;
  t.x_height = in_height_, t.x_width = in_width_ + 2 * pad_w_;
  t.x_image = std::int64_t{in_height_} * t.x_width * kBlock * (pad_w_ > 0 ? 1 : in_blocks_);
  t.kernel_h = kernel_h_, t.kernel_w = kernel_w_, t.stride = stride_, t.pad_h = pad_h_;
  for (std::int64_t out = first_out; out < last_out; ++out)
    std::memset(dw + (out * in_blocks_ + in_block) * taps, 0,
                static_cast<std::size_t>(taps) * sizeof(float));
  for (int image = 0; image < batch_; image += images_) {
    t.images = std::min(images_, batch_ - image);
    t.x = with_padding(x, padded, in_block, image, t.images);
    for (t.first_row = 0; t.first_row < out_height_; t.first_row = t.last_row) {
      t.last_row = std::min(out_height_, t.first_row + rows_);
      for (std::int64_t out = first_out; out < last_out; out += 2) {
        t.output_blocks = static_cast<int>(std::min<std::int64_t>(2, last_out - out));
        t.dy = dy + (image * out_blocks_ + out) * out_plane;
        t.dw = dw + (out * in_blocks_ + in_block) * taps;
        add_weight_gradient(t);
      }
    }
  }
}

// The planes of one block of input channels, with zeros left and right of every row.
const float* WeightGradient::with_padding(const float* x, float* padded, std::int64_t in_block,
                                          int image, int images) const {
  const std::int64_t plane = std::int64_t{in_height_} * in_width_ * kBlock;
  const float* from = x + (image * in_blocks_ + in_block) * plane;
  if (pad_w_ == 0) return from;
  const auto side = static_cast<std::size_t>(pad_w_ * kBlock);
  const auto row = static_cast<std::size_t>(in_width_ * kBlock);
  float* to = padded;
  for (int i = 0; i < images; ++i) {
    const float* line = from + i * in_blocks_ * plane;
    for (int h = 0; h < in_height_; ++h, line += row, to += row + 2 * side) {
      std::memset(to, 0, side * sizeof(float));
      std::memcpy(to + side, line, row * sizeof(float));
      std::memset(to + side + row, 0, side * sizeof(float));
    }
  }
  return padded;
}

}  // namespace rackmark::worker::onednn
