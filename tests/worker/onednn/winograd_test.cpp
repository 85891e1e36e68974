// The convolutions of winograd.hpp against plain sums in double, for every block of channels that
// this host has kernels for.
#include "worker/backend/onednn/winograd.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/worker/onednn/blocked_values.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

struct WinogradCase {
  int batch, in, out, height, width, pad;
  int threads;  // that have tiles of their own or, where there are few, work together
  int out_height() const { return height + 2 * pad - 2; }
  int out_width() const { return width + 2 * pad - 2; }
};

struct Passes {
  Plain x, w, dy;   // given
  Plain y, dx, dw;  // wanted
};

Passes plain_sums(const WinogradCase& c) {
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

void check(const WinogradCase& c, const Passes& p, int block) {
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

class WinogradPasses : public testing::TestWithParam<WinogradCase> {};

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
    testing::Values(WinogradCase{5, 32, 32, 20, 20, 1, 2},  // each thread alone, in several turns
                    WinogradCase{2, 40, 72, 15, 12, 1,
                                 2},  // odd numbers of blocks, tiles over the edge
                    WinogradCase{1, 96, 64, 16, 16, 1, 3},    // too few tiles: all threads together
                    WinogradCase{2, 32, 48, 18, 14, 0, 1},    // no padding
                    WinogradCase{1, 33, 34, 16, 20, 2, 2}));  // blocks that are not full

}  // namespace
}  // namespace rackmark::worker::onednn
