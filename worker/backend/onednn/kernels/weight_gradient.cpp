// Compiled for AVX2 and FMA. As in kernels_body.inc nothing here comes from the standard library's
// templates.
#include "worker/backend/onednn/kernels/weight_gradient.hpp"

namespace rackmark::worker::onednn {
namespace {

using std::int64_t;

constexpr int kBlock = 8;
typedef float V __attribute__((vector_size(kBlock * 4), aligned(4), may_alias));

[[gnu::always_inline]] inline V load(const float* from) {
  return *reinterpret_cast<const V*>(from);
}

struct Rows {
  int first, last;
};
// Rows of dy whose pixel of x, for this row of the kernel, is not in the padding.
Rows rows_of(const WeightGradientTask& t, int kernel_row) {
  const int up = t.pad_h - kernel_row;
  const int first = up > 0 ? (up + t.stride - 1) / t.stride : 0;
  const int last = (t.x_height - 1 + up) / t.stride + 1;
  return {first > t.first_row ? first : t.first_row, last < t.last_row ? last : t.last_row};
}

// kOut blocks of outputs against kIn input channels and kWide columns of the kernel: as many sums
// as registers hold beside what they are made of.
template <int kOut, int kIn, int kWide>
void add_part(const WeightGradientTask& t, int kernel_row, int column, int channel) {
  V sums[kOut][kWide * kIn] = {};
  Rows rows = rows_of(t, kernel_row);
  if (rows.first >= rows.last) return;
  int64_t width = t.dy_width, height = rows.last - rows.first;
  const int64_t step = int64_t{t.stride} * kBlock;
  int64_t x_row = int64_t{t.stride} * t.x_width * kBlock, dy_row = width * kBlock;
  if (kWide == 1 && t.stride == 1 && t.x_width == t.dy_width) {  // one long row
    width *= height;
    height = 1;
  }
  const int64_t top = int64_t{rows.first} * t.stride - t.pad_h + kernel_row;
  for (int image = 0; image < t.images; ++image) {
    const float* x = t.x + image * t.x_image + (top * t.x_width + column) * kBlock + channel;
    const float* dy = t.dy + image * t.dy_image + rows.first * int64_t{t.dy_width} * kBlock;
    for (int64_t h = 0; h < height; ++h, x += x_row, dy += dy_row) {
      const float* from = x;
      for (int64_t w = 0; w < width; ++w, from += step) {
        V d[kOut];
#pragma GCC unroll 2
        for (int o = 0; o < kOut; ++o) d[o] = load(dy + o * t.dy_block + w * kBlock);
#pragma GCC unroll 4
        for (int k = 0; k < kWide; ++k)
#pragma GCC unroll 4
          for (int i = 0; i < kIn; ++i)
#pragma GCC unroll 2
            for (int o = 0; o < kOut; ++o) sums[o][k * kIn + i] += d[o] * from[k * kBlock + i];
      }
    }
  }
  for (int o = 0; o < kOut; ++o)
    for (int k = 0; k < kWide; ++k)
      for (int i = 0; i < kIn; ++i) {
        const int64_t tap = int64_t{kernel_row} * t.kernel_w + column + k;
        V* dw = reinterpret_cast<V*>(t.dw + o * t.dw_block + (tap * kBlock + channel + i) * kBlock);
        *dw += sums[o][k * kIn + i];
      }
}

template <int kOut, int kIn, int kWide>
void add_columns(const WeightGradientTask& t, int kernel_row, int column) {
  for (int channel = 0; channel < kBlock; channel += kIn)
    add_part<kOut, kIn, kWide>(t, kernel_row, column, channel);
}

template <int kOut>
void add_row(const WeightGradientTask& t, int kernel_row) {
  int column = 0;
  while (column < t.kernel_w) {
    const int left = t.kernel_w - column;
    const int wide = left == 4 || left >= 6 ? 4 : left == 5 || left == 3 ? 3 : left;
    if (wide == 4) add_columns<kOut, 1, 4>(t, kernel_row, column);
    if (wide == 3) add_columns<kOut, 2, 3>(t, kernel_row, column);
    if (wide == 2) add_columns<kOut, 2, 2>(t, kernel_row, column);
    if (wide == 1) add_columns<kOut, 4, 1>(t, kernel_row, column);
    column += wide;
  }
}

}  // namespace

void add_weight_gradient(const WeightGradientTask& task) {
  for (int row = 0; row < task.kernel_h; ++row)
    task.output_blocks == 2 ? add_row<2>(task, row) : add_row<1>(task, row);
}

}  // namespace rackmark::worker::onednn
