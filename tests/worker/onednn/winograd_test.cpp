// The convolutions of winograd.hpp against plain sums in double, for every block of channels that
// this host has kernels for.
#include "worker/backend/onednn/winograd.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "worker/backend/onednn/threads.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::onednn {
namespace {

struct Case {
  int batch, in, out, height, width, pad;
  int threads;  // that have tiles of their own or, where there are few, work together
  int out_height() const { return height + 2 * pad - 2; }
  int out_width() const { return width + 2 * pad - 2; }
};

// [a][b][pixels] one after the other.
struct Plain {
  int a, b, pixels;
  std::vector<double> values;
  Plain(int a_, int b_, int pixels_) : a(a_), b(b_), pixels(pixels_) {
    values.assign(static_cast<std::size_t>(a) * b * pixels, 0.0);
  }
  static Plain random(const char* name, int a, int b, int pixels) {
    Plain plain(a, b, pixels);
    std::ranges::copy(uniform(name, std::ssize(plain.values)), plain.values.begin());
    return plain;
  }
  double* at(int i, int j) {
    return values.data() + (static_cast<std::ptrdiff_t>(i) * b + j) * pixels;
  }
};

// The same in blocks of channels: pictures by b, weights by b and a.
class Blocked {
 public:
  Blocked(const Plain& like, int block, bool weights)
      : block_(block), weights_(weights), blocks_((like.b + block - 1) / block) {
    const int first = weights ? (like.a + block - 1) / block * block : like.a;
    values_.assign(static_cast<std::size_t>(first) * blocks_ * block * like.pixels, 0.0F);
  }
  float& at(int a, int b, int pixel, int pixels) {
    const std::int64_t block = block_, inside = b % block;
    if (!weights_) return values_[((a * blocks_ + b / block) * pixels + pixel) * block + inside];
    const std::int64_t pair = (a / block) * blocks_ + b / block;
    return values_[((pair * pixels + pixel) * block + inside) * block + a % block];
  }
  Blocked& fill(const Plain& plain) {
    for (std::size_t i = 0; i < plain.values.size(); ++i)
      at_index(plain, i) = static_cast<float>(plain.values[i]);
    return *this;
  }
  float& at_index(const Plain& plain, std::size_t i) {
    const auto index = static_cast<int>(i);
    const int outer = index / plain.pixels;
    return at(outer / plain.b, outer % plain.b, index % plain.pixels, plain.pixels);
  }
  float* data() { return values_.data(); }

 private:
  int block_;
  bool weights_;
  std::int64_t blocks_;
  std::vector<float> values_;
};

struct Passes {
  Plain x, w, dy;   // given
  Plain y, dx, dw;  // wanted
};

Passes plain_sums(const Case& c) {
  const int in_pixels = c.height * c.width, out_pixels = c.out_height() * c.out_width();
  Passes p{Plain::random("x", c.batch, c.in, in_pixels),
           Plain::random("w", c.out, c.in, 9),
           Plain::random("dy", c.batch, c.out, out_pixels),
           Plain(c.batch, c.out, out_pixels),
           Plain(c.batch, c.in, in_pixels),
           Plain(c.out, c.in, 9)};
  for (int n = 0; n < c.batch; ++n)
    for (int o = 0; o < c.out; ++o)
      for (int i = 0; i < c.in; ++i)
        for (int tap = 0; tap < 9; ++tap) {
          const double weight = p.w.at(o, i)[tap];
          double sum = 0;
          for (int h = 0; h < c.out_height(); ++h) {
            const int row = h + tap / 3 - c.pad, shift = tap % 3 - c.pad;
            if (row < 0 || row >= c.height) continue;
            const int first = std::max(0, -shift), last = std::min(c.out_width(), c.width - shift);
            double *x = p.x.at(n, i) + row * c.width + shift,
                   *dx = p.dx.at(n, i) + (x - p.x.at(n, i));
            double *y = p.y.at(n, o) + h * c.out_width(), *dy = p.dy.at(n, o) + h * c.out_width();
            for (int v = first; v < last; ++v) {
              y[v] += weight * x[v];
              dx[v] += weight * dy[v];
              sum += x[v] * dy[v];
            }
          }
          p.dw.at(o, i)[tap] += sum;
        }
  return p;
}

// Relative to the largest value: cancellation leaves small ones no digits of their own.
void expect_near(const Plain& wanted, Blocked& found, const char* pass) {
  double largest = 0, off = 0;
  for (std::size_t i = 0; i < wanted.values.size(); ++i) {
    largest = std::max(largest, std::abs(wanted.values[i]));
    off = std::max(off, std::abs(wanted.values[i] - double{found.at_index(wanted, i)}));
  }
  EXPECT_GT(largest, 0.1) << pass;
  EXPECT_LT(off, 2e-5 * largest) << pass;
}

void check(const Case& c, const Passes& p, int block) {
  const ComputeScope scope(c.threads);
  ConvolutionShape shape;
  shape.src = make_desc({c.batch, c.in, c.height, c.width}, blocked_pictures(block));
  shape.dst = make_desc({c.batch, c.out, c.out_height(), c.out_width()}, blocked_pictures(block));
  shape.weights = make_desc({c.out, c.in, 3, 3}, blocked_weights(block));
  shape.strides = {1, 1};
  shape.pad_before = shape.pad_after = {c.pad, c.pad};
  const auto plan = Winograd::plan(shape);
  ASSERT_TRUE(plan);
  const Winograd turned = plan->turned();
  Blocked x = Blocked(p.x, block, false).fill(p.x), w = Blocked(p.w, block, true).fill(p.w);
  Blocked dy = Blocked(p.dy, block, false).fill(p.dy);
  Blocked y(p.y, block, false), dx(p.dx, block, false), dw(p.dw, block, true);
  std::vector<float> points(std::max(plan->point_floats(), turned.point_floats()));
  std::vector<float> work(std::max(plan->work_floats(), turned.work_floats()));
  plan->transform(w.data(), points.data());
  plan->convolve(x.data(), points.data(), {}, y.data(), work.data());
  expect_near(p.y, y, "forward");
  turned.transform(w.data(), points.data());
  turned.convolve(dy.data(), points.data(), {}, dx.data(), work.data());
  expect_near(p.dx, dx, "data");
  plan->weight_gradient(x.data(), dy.data(), dw.data(), points.data(), work.data());
  expect_near(p.dw, dw, "weights");
}

class WinogradPasses : public testing::TestWithParam<Case> {};

TEST_P(WinogradPasses, AreThoseOfPlainSums) {
  const Passes wanted = plain_sums(GetParam());
  int blocks = 0;
  for (const int block : {8, 16}) {
    if (winograd_kernels(block) == nullptr) continue;
    SCOPED_TRACE("block " + std::to_string(block));
    check(GetParam(), wanted, block);
    ++blocks;
  }
  if (blocks == 0) GTEST_SKIP() << "this host has no Winograd kernels";
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, WinogradPasses,
    testing::Values(Case{5, 32, 32, 20, 20, 1, 2},    // each thread alone, in several turns
                    Case{2, 40, 72, 15, 12, 1, 2},    // odd numbers of blocks, tiles over the edge
                    Case{1, 96, 64, 16, 16, 1, 3},    // too few tiles: all threads together
                    Case{2, 32, 48, 18, 14, 0, 1},    // no padding
                    Case{1, 33, 34, 16, 20, 2, 2}));  // blocks that are not full

}  // namespace
}  // namespace rackmark::worker::onednn
