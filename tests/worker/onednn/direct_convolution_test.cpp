// The convolutions of direct_convolution.hpp against plain sums in double.
#include "worker/backend/onednn/direct_convolution.hpp"

#include "tests/worker/onednn/blocked_values.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

struct DirectCase {
  int batch, in, out, height, width, kernel_h, kernel_w, stride, pad_h, pad_w;
  bool sum, relu;
  int out_height() const { return (height + 2 * pad_h - kernel_h) / stride + 1; }
  int out_width() const { return (width + 2 * pad_w - kernel_w) / stride + 1; }
};

ConvolutionShape shape_of(const DirectCase& c) {
  ConvolutionShape shape;
  shape.src = make_desc({c.batch, c.in, c.height, c.width}, Tag::nChw16c);
  shape.dst = make_desc({c.batch, c.out, c.out_height(), c.out_width()}, Tag::nChw16c);
  shape.weights = make_desc({c.out, c.in, c.kernel_h, c.kernel_w}, Tag::OIhw16i16o);
  shape.strides = {c.stride, c.stride};
  shape.pad_before = shape.pad_after = {c.pad_h, c.pad_w};
  return shape;
}

double window_sum(const DirectCase& c, Plain& x, Plain& w, int n, int o, int pixel) {
  const int top = pixel / c.out_width() * c.stride - c.pad_h;
  const int left = pixel % c.out_width() * c.stride - c.pad_w;
  double sum = 0;
  for (int i = 0; i < c.in; ++i)
    for (int h = std::max(0, -top); h < std::min(c.kernel_h, c.height - top); ++h)
      for (int v = std::max(0, -left); v < std::min(c.kernel_w, c.width - left); ++v)
        sum += x.at(n, i)[(top + h) * c.width + left + v] * w.at(o, i)[h * c.kernel_w + v];
  return sum;
}

class DirectPasses : public testing::TestWithParam<DirectCase> {};

TEST_P(DirectPasses, AreThoseOfPlainSums) {
  if (!has_direct_kernel()) GTEST_SKIP() << "this host has no AVX-512";
  const DirectCase c = GetParam();
  const ComputeScope scope(2);
  const auto plan = DirectConvolution::plan(shape_of(c));
  ASSERT_TRUE(plan);
  Plain x = Plain::random("x", c.batch, c.in, c.height * c.width);
  Plain w = Plain::random("w", c.out, c.in, c.kernel_h * c.kernel_w);
  Plain bias = Plain::random("bias", 1, c.out, 1);
  Plain y = Plain::random("before", c.batch, c.out, c.out_height() * c.out_width());
  Blocked blocked_y = Blocked(y, 16, false).fill(y);
  for (int n = 0; n < c.batch; ++n)
    for (int o = 0; o < c.out; ++o)
      for (int pixel = 0; pixel < y.pixels; ++pixel) {
        double value = window_sum(c, x, w, n, o, pixel) + bias.values[o];
        if (c.sum) value += y.at(n, o)[pixel];
        y.at(n, o)[pixel] = c.relu ? std::max(value, 0.0) : value;
      }
  std::vector<float> arranged(plan->weight_floats()), work(plan->work_floats());
  std::vector<float> padded_bias(plan->bias_floats());
  std::ranges::transform(bias.values, padded_bias.begin(),
                         [](double value) { return static_cast<float>(value); });
  Blocked blocked_x = Blocked(x, 16, false).fill(x), blocked_w = Blocked(w, 16, true).fill(w);
  plan->arrange(blocked_w.data(), arranged.data());
  plan->convolve(blocked_x.data(), arranged.data(), {padded_bias.data(), c.sum, c.relu},
                 blocked_y.data(), work.data());
  expect_near(y, blocked_y, "forward");
}

INSTANTIATE_TEST_SUITE_P(Shapes, DirectPasses,
                         testing::Values(DirectCase{2, 40, 72, 7, 7, 3, 3, 1, 1, 1, true,
                                                    true},  // blocks not full, odd
                                         DirectCase{1, 32, 48, 56, 56, 3, 3, 2, 1, 1, false,
                                                    true},  // every second pixel
                                         DirectCase{2, 33, 16, 10, 14, 5, 3, 1, 2, 1, true, false},
                                         DirectCase{3, 80, 16, 57, 57, 3, 3, 2, 0, 0, false,
                                                    false}));  // one image at a time

TEST(DirectConvolution, LeavesOthersToOneDnn) {
  const DirectCase taken{1, 64, 64, 14, 14, 3, 3, 1, 1, 1, false, false};
  EXPECT_EQ(DirectConvolution::plan(shape_of(taken)).has_value(), has_direct_kernel());
  DirectCase other = taken;
  other.in = 3;
  EXPECT_FALSE(DirectConvolution::plan(shape_of(other))) << "the first layer";
  other = taken, other.kernel_h = other.kernel_w = 1, other.pad_h = other.pad_w = 0;
  EXPECT_FALSE(DirectConvolution::plan(shape_of(other))) << "1x1";
  other = taken, other.width = 17;
  EXPECT_FALSE(DirectConvolution::plan(shape_of(other))) << "rows of 17 pixels";
  other = taken, other.stride = 3;
  EXPECT_FALSE(DirectConvolution::plan(shape_of(other))) << "stride 3";
}

}  // namespace
}  // namespace rackmark::worker::onednn
