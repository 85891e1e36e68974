#include "worker/backend/onednn/direct_convolution.hpp"

#include <omp.h>

#include <algorithm>

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kLeastInputs = 32;
// Rows that fill the kernel's registers, and where oneDNN's own kernel does not fill them.
constexpr std::int64_t kPixels = 7, kLongestRow = 14, kLongestStridedRow = 28;
constexpr std::int64_t kPaddedFloats = 256 * 1024;  // of padded pictures, for each thread

constexpr std::int64_t kTasksPerThread = 4;  // so that the last ones keep nobody waiting long

}  // namespace

std::optional<DirectConvolution> DirectConvolution::plan(const ConvolutionShape& shape) {
  const Dims src = dims_of(shape.src), dst = dims_of(shape.dst), kernel = dims_of(shape.weights);
  const bool fits = has_direct_kernel() && kernel.size() == 4 && kernel[2] * kernel[3] > 1 &&
                    shape.strides[0] == shape.strides[1] && shape.strides[0] <= 2 &&
                    shape.pad_before == shape.pad_after && src[1] >= kLeastInputs &&
                    shape.src == make_desc(src, Tag::nChw16c) &&
                    shape.dst == make_desc(dst, Tag::nChw16c);
  if (!fits) return std::nullopt;
  const std::int64_t longest = shape.strides[0] == 1 ? kLongestRow : kLongestStridedRow;
  if (dst[3] % kPixels != 0 || dst[3] > longest) return std::nullopt;
  const auto small = [](dnnl::memory::dim value) { return static_cast<int>(value); };
  DirectConvolution plan;
  plan.batch_ = src[0];
  plan.in_blocks_ = (src[1] + kDirectBlock - 1) / kDirectBlock;
  plan.out_blocks_ = (dst[1] + kDirectBlock - 1) / kDirectBlock;
  plan.in_height_ = small(src[2]), plan.in_width_ = small(src[3]);
  plan.out_height_ = small(dst[2]), plan.out_width_ = small(dst[3]);
  plan.kernel_h_ = small(kernel[2]), plan.kernel_w_ = small(kernel[3]);
  plan.stride_ = small(shape.strides[0]);
  plan.pad_h_ = small(shape.pad_before[0]), plan.pad_w_ = small(shape.pad_before[1]);
  plan.threads_ = omp_get_max_threads();
  plan.images_ =
      std::clamp<std::int64_t>(kPaddedFloats * plan.threads_ / plan.image_floats(), 1, plan.batch_);
  return plan;
}

void DirectConvolution::arrange(const float* weights, float* to) const {
  std::fill_n(to, weight_floats(), 0.0F);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (std::int64_t out = 0; out < out_blocks_; ++out) {
    for (std::int64_t in = 0; in < in_blocks_; ++in) {
      const float* from = weights + (out * in_blocks_ + in) * taps() * kDirectBlock * kDirectBlock;
      const std::int64_t width = width_of(out / 2);
      float* first = to + out / 2 * panel_floats() + in * taps() * kDirectBlock * width +
                     out % 2 * kDirectBlock;
      for (std::int64_t line = 0; line < taps() * kDirectBlock; ++line)
        std::copy_n(from + line * kDirectBlock, kDirectBlock, first + line * width);
    }
  }
}

// One plane with zeros around it.
void DirectConvolution::pad(const float* plane, float* to) const {
  const std::int64_t side = pad_w_ * kDirectBlock, row = in_width_ * kDirectBlock;
  std::fill_n(to, pad_h_ * padded_width() * kDirectBlock, 0.0F);
  to += pad_h_ * padded_width() * kDirectBlock;
  for (int h = 0; h < in_height_; ++h, plane += row, to += row + 2 * side) {
    std::fill_n(to, side, 0.0F);
    std::copy_n(plane, row, to + side);
    std::fill_n(to + side + row, side, 0.0F);
  }
  std::fill_n(to, pad_h_ * padded_width() * kDirectBlock, 0.0F);
}

// Of one image, for one or two blocks of output channels.
void DirectConvolution::work_off(Rows rows, const float* padded, const float* arranged,
                                 std::int64_t panel, const ConvolutionEnd& end, float* y) const {
  DirectRow row{};
  row.x_block = padded_plane();
  row.x_row = padded_width() * kDirectBlock;
  row.weights = arranged + panel * panel_floats();
  row.y_block = std::int64_t{out_height_} * out_width_ * kDirectBlock;
  row.bias = end.bias + panel * 2 * kDirectBlock;
  row.in_blocks = static_cast<int>(in_blocks_);
  row.kernel_h = kernel_h_, row.kernel_w = kernel_w_, row.stride = stride_;
  row.pixels = out_width_;
  row.blocks = static_cast<int>(width_of(panel) / kDirectBlock);
  row.sum = end.sum, row.relu = end.relu;
  for (int h = rows.first; h < rows.last; ++h) {
    row.x = padded + h * stride_ * row.x_row;
    row.y = y + 2 * panel * row.y_block + h * out_width_ * kDirectBlock;
    direct_row(row);
  }
}

void DirectConvolution::convolve(const float* x, const float* arranged, const ConvolutionEnd& end,
                                 float* y, float* work) const {
  const std::int64_t in_plane = std::int64_t{in_height_} * in_width_ * kDirectBlock;
  const std::int64_t out_image = out_blocks_ * out_height_ * out_width_ * kDirectBlock;
#pragma omp parallel num_threads(threads_)
  for (std::int64_t first = 0; first < batch_; first += images_) {
    const std::int64_t images = std::min(images_, batch_ - first);
#pragma omp for schedule(static)
    for (std::int64_t plane = 0; plane < images * in_blocks_; ++plane)
      pad(x + (first * in_blocks_ + plane) * in_plane, work + plane * padded_plane());
    const std::int64_t wanted = kTasksPerThread * threads_ / (panels() * images) + 1;
    const int parts = static_cast<int>(std::min<std::int64_t>(out_height_, wanted));
#pragma omp for collapse(3) schedule(static)
    for (std::int64_t panel = 0; panel < panels(); ++panel)
      for (std::int64_t image = 0; image < images; ++image)
        for (int part = 0; part < parts; ++part) {
          const Rows rows{out_height_ * part / parts, out_height_ * (part + 1) / parts};
          work_off(rows, work + image * image_floats(), arranged, panel, end,
                   y + (first + image) * out_image);
        }
  }
}

}  // namespace rackmark::worker::onednn
