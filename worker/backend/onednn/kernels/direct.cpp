// Compiled for AVX-512. As in kernels_body.inc nothing here comes from the standard library's
// templates.
#include "worker/backend/onednn/kernels/direct.hpp"

namespace rackmark::worker::onednn {
namespace {

using std::int64_t;

constexpr int kBlock = kDirectBlock;
typedef float V __attribute__((vector_size(kBlock * 4), aligned(4), may_alias));

[[gnu::always_inline]] inline V load(const float* from) {
  return *reinterpret_cast<const V*>(from);
}
[[gnu::always_inline]] inline void store(float* to, V value) { *reinterpret_cast<V*>(to) = value; }

// As many sums as registers hold: 14 pixels of two blocks of channels beside what they are made of.
template <int kPixels, int kStride, int kWide>
void some_pixels(const DirectRow& t, int first) {
  V sums[kPixels][kWide] = {};
  const float* weights = t.weights;
  const float* block = t.x + int64_t{first} * kStride * kBlock;
  for (int in = 0; in < t.in_blocks; ++in, block += t.x_block) {
    for (int h = 0; h < t.kernel_h; ++h) {
      const float* x = block + h * t.x_row;
      for (int i = 0; i < t.kernel_w * kBlock; ++i, ++x, weights += kWide * kBlock) {
        V wide[kWide];
#pragma GCC unroll 2
        for (int w = 0; w < kWide; ++w) wide[w] = load(weights + w * kBlock);
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 2
          for (int w = 0; w < kWide; ++w) sums[p][w] += wide[w] * x[p * kStride * kBlock];
      }
    }
  }
  float* y = t.y + int64_t{first} * kBlock;
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 2
    for (int w = 0; w < kWide; ++w) {
      float* to = y + w * t.y_block + p * kBlock;
      V value = sums[p][w] + load(t.bias + w * kBlock);
      if (t.sum) value += load(to);
      if (t.relu) value = value < 0 ? V{} : value;  // NaN stays
      store(to, value);
    }
}

template <int kStride, int kWide>
void all_pixels(const DirectRow& t) {
  int first = 0;
  const auto take = [&](int pixels, void (*some)(const DirectRow&, int)) {
    for (; t.pixels - first >= pixels; first += pixels) some(t, first);
  };
  take(14, some_pixels<14, kStride, kWide>);
  take(7, some_pixels<7, kStride, kWide>);
  take(3, some_pixels<3, kStride, kWide>);
  take(1, some_pixels<1, kStride, kWide>);
}

}  // namespace

void direct_row(const DirectRow& row) {
  if (row.stride == 1)
    row.blocks == 2 ? all_pixels<1, 2>(row) : all_pixels<1, 1>(row);
  else
    row.blocks == 2 ? all_pixels<2, 2>(row) : all_pixels<2, 1>(row);
}

}  // namespace rackmark::worker::onednn
