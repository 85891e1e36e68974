// Compiled for AVX2 and FMA. As in kernels_body.inc nothing here comes from the standard library's
// templates.
#include "worker/backend/onednn/kernels/winograd.hpp"

namespace rackmark::worker::onednn {
namespace {

using std::int64_t;

constexpr int kBlock = kWinogradBlock, kIn = 6, kOut = kWinogradTile, kTaps = 3;
typedef float V __attribute__((vector_size(kBlock * 4), aligned(4), may_alias));

[[gnu::always_inline]] inline V load(const float* from) {
  return *reinterpret_cast<const V*>(from);
}
[[gnu::always_inline]] inline void store(float* to, V value) { *reinterpret_cast<V*>(to) = value; }

// --- the four transforms in one dimension; every element is `step` vectors after the one before

[[gnu::always_inline]] inline void source(const V* d, int step, V* t) {  // B'
  const V d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
          d5 = d[5 * step];
  const V even = d4 - 4.0F * d2, odd = d3 - 4.0F * d1;
  const V near = d4 - d2, far = 2.0F * (d3 - d1);
  t[0] = 4.0F * d0 - 5.0F * d2 + d4;
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = near + far;
  t[4] = near - far;
  t[5] = 4.0F * d1 - 5.0F * d3 + d5;
}

[[gnu::always_inline]] inline void result(const V* m, int step, V* y) {  // A'
  const V sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
  const V sum2 = m[3 * step] + m[4 * step], difference2 = m[3 * step] - m[4 * step];
  y[0] = m[0] + sum + sum2;
  y[1] = difference + 2.0F * difference2;
  y[2] = sum + 4.0F * sum2;
  y[3] = difference + 8.0F * difference2 + m[5 * step];
}

[[gnu::always_inline]] inline void gradient(const V* y, int step, V* z) {  // A
  const V y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
  const V even = y0 + y2, odd = y1 + y3;
  const V even2 = y0 + 4.0F * y2, odd2 = 2.0F * y1 + 8.0F * y3;
  z[0] = y0;
  z[1] = even + odd;
  z[2] = even - odd;
  z[3] = even2 + odd2;
  z[4] = even2 - odd2;
  z[5] = y3;
}

[[gnu::always_inline]] inline void weights(const V* w, int step, V* u) {  // G
  const V w0 = w[0], w1 = w[step], w2 = w[2 * step];
  const V ends = (w0 + w2) * (-1.0F / 6), middle = w1 * (1.0F / 6);
  const V ends2 = (w0 + 4.0F * w2) * (1.0F / 24), middle2 = w1 * (1.0F / 12);
  u[0] = w0 * 0.25F;
  u[1] = ends - middle;
  u[2] = ends + middle;
  u[3] = ends2 + middle2;
  u[4] = ends2 - middle2;
  u[5] = w2;
}

[[gnu::always_inline]] inline void weight_gradient(const V* u, int step, V* w) {  // G'
  const V sum = u[step] + u[2 * step], difference = u[2 * step] - u[step];
  const V sum2 = u[3 * step] + u[4 * step], difference2 = u[3 * step] - u[4 * step];
  w[0] = u[0] * 0.25F - sum * (1.0F / 6) + sum2 * (1.0F / 24);
  w[1] = difference * (1.0F / 6) + difference2 * (1.0F / 12);
  w[2] = (sum2 - sum) * (1.0F / 6) + u[5 * step];
}

// The first and, behind it, the second dimension: kFrom x kFrom vectors to kTo x kTo.
template <int kFrom, int kTo, void (*kTransform)(const V*, int, V*)>
[[gnu::always_inline]] inline void in_both(const V* from, V* to) {
  V half[kFrom * kTo];  // [from column][to row]
  for (int column = 0; column < kFrom; ++column)
    kTransform(from + column, kFrom, half + column * kTo);
  for (int row = 0; row < kTo; ++row) kTransform(half + row, kTo, to + row * kTo);
}

// A square of the plane, zeros where it leaves it.
template <int kSide>
[[gnu::always_inline]] inline void load_tile(const float* plane, const WinogradTile& t, V* to) {
  const int64_t row = int64_t{t.width} * kBlock;
  const bool inside =
      t.top >= 0 && t.left >= 0 && t.top + kSide <= t.height && t.left + kSide <= t.width;
  if (inside) {
    const float* from = plane + t.top * row + int64_t{t.left} * kBlock;
    for (int h = 0; h < kSide; ++h, from += row)
      for (int w = 0; w < kSide; ++w) to[h * kSide + w] = load(from + w * kBlock);
    return;
  }
  for (int h = 0; h < kSide; ++h)
    for (int w = 0; w < kSide; ++w) {
      const int y = t.top + h, x = t.left + w;
      const bool there = y >= 0 && x >= 0 && y < t.height && x < t.width;
      to[h * kSide + w] = there ? load(plane + y * row + int64_t{x} * kBlock) : V{};
    }
}

template <int kSide>
[[gnu::always_inline]] inline void store_points(const V* points, float* to, int64_t step) {
  for (int p = 0; p < kSide * kSide; ++p) store(to + p * step, points[p]);
}

template <int kSide>
[[gnu::always_inline]] inline void load_points(const float* from, int64_t step, V* points) {
  for (int p = 0; p < kSide * kSide; ++p) points[p] = load(from + p * step);
}

// As many sums as registers hold beside what they are made of.
template <int kRows, int kWide>
void multiply_rows(const WinogradProduct& p, int first) {
  V sums[kRows][kWide] = {};
  const float* a = p.a + first * p.a_row;
  const float* b = p.b;
  for (int d = 0; d < p.depth; ++d, a += p.a_step, b += p.b_step) {
    V wide[kWide];
#pragma GCC unroll 2
    for (int w = 0; w < kWide; ++w) wide[w] = load(b + w * kBlock);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int w = 0; w < kWide; ++w) sums[r][w] += wide[w] * a[r * p.a_row];
  }
  float* to = p.result + first * p.result_row;
  for (int r = 0; r < kRows; ++r)
    for (int w = 0; w < kWide; ++w) {
      float* at = to + r * p.result_row + w * kBlock;
      store(at, p.add ? load(at) + sums[r][w] : sums[r][w]);
    }
}

template <int kWide>
void multiply(const WinogradProduct& p) {
  constexpr int kRows = 6;
  int row = 0;
  for (; row + kRows <= p.rows; row += kRows) multiply_rows<kRows, kWide>(p, row);
  switch (p.rows - row) {
    case 5:
      return multiply_rows<5, kWide>(p, row);
    case 4:
      return multiply_rows<4, kWide>(p, row);
    case 3:
      return multiply_rows<3, kWide>(p, row);
    case 2:
      return multiply_rows<2, kWide>(p, row);
    case 1:
      return multiply_rows<1, kWide>(p, row);
    default:
      return;
  }
}

}  // namespace

void winograd_source(const float* plane, const WinogradTile& tile, float* to, int64_t step) {
  V pixels[kIn * kIn], points[kWinogradPoints];
  load_tile<kIn>(plane, tile, pixels);
  in_both<kIn, kIn, source>(pixels, points);
  store_points<kIn>(points, to, step);
}

void winograd_gradient(const float* plane, const WinogradTile& tile, float* to, int64_t step) {
  V pixels[kOut * kOut], points[kWinogradPoints];
  load_tile<kOut>(plane, tile, pixels);
  in_both<kOut, kIn, gradient>(pixels, points);
  store_points<kIn>(points, to, step);
}

void winograd_result(const float* from, int64_t step, const WinogradEnd& end, float* plane,
                     const WinogradTile& t) {
  V points[kWinogradPoints], pixels[kOut * kOut];
  load_points<kIn>(from, step, points);
  in_both<kIn, kOut, result>(points, pixels);
  const V bias = end.bias != nullptr ? load(end.bias) : V{};
  const int rows = t.height - t.top < kOut ? t.height - t.top : kOut;
  const int columns = t.width - t.left < kOut ? t.width - t.left : kOut;
  for (int h = 0; h < rows; ++h) {
    float* to = plane + ((t.top + h) * int64_t{t.width} + t.left) * kBlock;
    for (int w = 0; w < columns; ++w, to += kBlock) {
      V value = pixels[h * kOut + w] + bias;
      if (end.sum) value += load(to);
      if (end.relu) value = value < 0 ? V{} : value;  // NaN stays
      store(to, value);
    }
  }
}

void winograd_weights(const float* from, bool turned, float* to, int64_t step, int64_t row) {
  for (int line = 0; line < kBlock; ++line) {
    V taps[kTaps * kTaps], points[kWinogradPoints];
    for (int tap = 0; tap < kTaps * kTaps; ++tap) {
      const float* square = from + tap * kBlock * kBlock;
      if (!turned) {
        taps[tap] = load(square + line * kBlock);
        continue;
      }
      V& other = taps[kTaps * kTaps - 1 - tap];
      for (int c = 0; c < kBlock; ++c) other[c] = square[c * kBlock + line];
    }
    in_both<kTaps, kIn, weights>(taps, points);
    store_points<kIn>(points, to + line * row, step);
  }
}

void winograd_weight_gradient(const float* from, int64_t step, int64_t row, float* to) {
  for (int line = 0; line < kBlock; ++line) {
    V points[kWinogradPoints], taps[kTaps * kTaps];
    load_points<kIn>(from + line * row, step, points);
    in_both<kIn, kTaps, weight_gradient>(points, taps);
    for (int tap = 0; tap < kTaps * kTaps; ++tap)
      store(to + (tap * kBlock + line) * kBlock, taps[tap]);
  }
}

void winograd_multiply(const WinogradProduct& product) {
  product.vectors == 2 ? multiply<2>(product) : multiply<1>(product);
}

}  // namespace rackmark::worker::onednn
