// Every layer of the plain backend: gradients by finite differences, and values worked out by hand.
#include <gmock/gmock.h>

#include <numeric>

#include "finite_difference.hpp"
#include "worker/backend/reference/loss.hpp"

namespace rackmark::worker::reference {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::Pointwise;

constexpr double kExact = 1e-12;
constexpr double kClose = 1e-6;  // of central differences

template <class L>
std::vector<double> output_of(const L& layer, Shape in, Shape out, std::vector<double> values) {
  LayerBench bench(layer, {in}, out, 1);
  bench.inputs()[0] = std::move(values);
  return bench.forward();
}

std::vector<double> counting(int count) {  // 1, 2, ...
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1);
  return values;
}

TEST(ConvolutionGradient, OfPaddedStridedAndBiased) {
  const Conv2d layer{
      .out = 4, .kernel_h = 3, .kernel_w = 3, .stride = 2, .pad_h = 1, .pad_w = 1, .bias = true};
  EXPECT_LT(LayerBench(layer, {{3, 5, 7}}, {4, 3, 4}, 2, 9 * 3 * 4, 4).worst_gradient_error(),
            kClose);
}

TEST(ConvolutionGradient, OfAnOblongKernel) {
  const Conv2d layer{.out = 5, .kernel_h = 1, .kernel_w = 5, .pad_w = 2};
  EXPECT_LT(LayerBench(layer, {{2, 4, 6}}, {5, 4, 6}, 2, 5 * 2 * 5).worst_gradient_error(), kClose);
}

TEST(ConvolutionGradient, OfMoreChannelsThanABlock) {
  EXPECT_LT(LayerBench(Conv2d{.out = 3}, {{19, 2, 2}}, {3, 2, 2}, 2, 57).worst_gradient_error(),
            kClose);
}

TEST(ConvolutionGradient, WithColumnsThatNoWindowReaches) {
  const Conv2d layer{.out = 2, .kernel_h = 2, .kernel_w = 2, .stride = 3};
  EXPECT_LT(LayerBench(layer, {{2, 7, 7}}, {2, 2, 2}, 1, 16).worst_gradient_error(), kClose);
}

TEST(Convolution, CrossCorrelates) {  // the kernel is not flipped
  const Conv2d layer{.out = 1, .kernel_h = 2, .kernel_w = 2};
  LayerBench bench(layer, {{1, 2, 3}}, {1, 1, 2}, 1, 4);
  bench.inputs()[0] = counting(6);
  const std::vector<double> weight{1, 10, 100, 1000};
  bench.context().weight = weight.data();
  EXPECT_THAT(bench.forward(), ElementsAre(1 + 20 + 400 + 5000, 2 + 30 + 500 + 6000));
}

TEST(LinearGradient, WithBias) {
  EXPECT_LT(LayerBench(Linear{.out = 4}, {{6, 1, 1}}, {4, 1, 1}, 3, 24, 4).worst_gradient_error(),
            kClose);
}

TEST(BatchNormGradient, OfSeveralBlocksOfChannels) {
  EXPECT_LT(LayerBench(BatchNorm{}, {{18, 3, 2}}, {18, 3, 2}, 3, 18, 18).worst_gradient_error(),
            kClose);
}

TEST(BatchNormalization, KeepsRunningStatistics) {
  LayerBench bench(BatchNorm{.momentum = 0.25}, {{1, 1, 2}}, {1, 1, 2}, 2, 1, 1);
  bench.inputs()[0] = {1, 2, 3, 6};  // mean 3, biased variance 3.5, unbiased 14 / 3
  bench.forward();
  EXPECT_THAT(bench.running_mean(), ElementsAre(DoubleNear(0.25 * 3, kExact)));
  EXPECT_THAT(bench.running_var(), ElementsAre(DoubleNear(0.75 + 0.25 * 14 / 3, kExact)));
}

TEST(BatchNormalization, EvaluatesWithRunningStatistics) {
  LayerBench bench(BatchNorm{.epsilon = 0}, {{1, 1, 2}}, {1, 1, 2}, 1, 1, 1);
  const std::vector<double> weight{3}, bias{10};
  bench.context().weight = weight.data();
  bench.context().bias = bias.data();
  bench.mutable_running_var() = {4};
  bench.inputs()[0] = {-2, 6};
  EXPECT_THAT(bench.forward(Pass::kEvaluation), ElementsAre(10 - 3, 10 + 9));
  EXPECT_THAT(bench.running_var(), ElementsAre(4));
}

TEST(ResponseNormGradient, OfOddAndEvenWindows) {
  // Large alpha, so that the part of the gradient through the scale counts.
  for (const int size : {3, 4, 9}) {
    const LocalResponseNorm layer{.size = size, .alpha = 1.5, .beta = 0.75, .k = 1};
    EXPECT_LT(LayerBench(layer, {{7, 2, 2}}, {7, 2, 2}, 2).worst_gradient_error(), kClose) << size;
  }
}

TEST(ResponseNormalization, DividesAlphaByTheSize) {
  const LocalResponseNorm layer{.size = 3, .alpha = 3, .beta = 1, .k = 2};
  EXPECT_THAT(output_of(layer, {4, 1, 1}, {4, 1, 1}, {1, 2, 3, 4}),
              ElementsAre(1.0 / (2 + 5), 2.0 / (2 + 14), 3.0 / (2 + 29), 4.0 / (2 + 25)));
}

TEST(MaxPoolGradient, OfOverlappingPaddedAndCeiled) {
  EXPECT_LT(LayerBench(MaxPool{.kernel = 3, .stride = 2, .pad = 1}, {{3, 6, 5}}, {3, 3, 3}, 2)
                .worst_gradient_error(),
            kClose);
  EXPECT_LT(
      LayerBench(MaxPool{.kernel = 3, .stride = 2, .ceil_mode = true}, {{2, 6, 6}}, {2, 3, 3}, 2)
          .worst_gradient_error(),
      kClose);
}

TEST(MaxPooling, CutsTheLastWindowInCeilMode) {
  const MaxPool layer{.kernel = 2, .stride = 2, .ceil_mode = true};
  EXPECT_THAT(output_of(layer, {1, 3, 3}, {1, 2, 2}, counting(9)), ElementsAre(5, 6, 8, 9));
}

TEST(MaxPooling, PaddingNeverWins) {
  const MaxPool layer{.kernel = 3, .stride = 2, .pad = 1};
  EXPECT_THAT(output_of(layer, {1, 2, 2}, {1, 1, 1}, {-4, -3, -2, -1}), ElementsAre(-1));
}

TEST(AveragePoolGradient, OfOverlappingAndPadded) {
  EXPECT_LT(LayerBench(AveragePool{.kernel = 3, .stride = 1, .pad = 1}, {{3, 4, 5}}, {3, 4, 5}, 2)
                .worst_gradient_error(),
            kClose);
  EXPECT_LT(LayerBench(AveragePool{.kernel = 5, .stride = 3}, {{2, 9, 9}}, {2, 2, 2}, 2)
                .worst_gradient_error(),
            kClose);
}

TEST(AveragePooling, CountsThePadding) {
  const AveragePool layer{.kernel = 3, .stride = 2, .pad = 1};
  EXPECT_THAT(output_of(layer, {1, 2, 2}, {1, 1, 1}, {9, 9, 9, 9}), ElementsAre(4));
}

TEST(AdaptivePoolGradient, OfOverlappingWindows) {
  EXPECT_LT(
      LayerBench(AdaptiveAveragePool{.out = 4}, {{3, 14, 14}}, {3, 4, 4}, 1).worst_gradient_error(),
      kClose);
  EXPECT_LT(
      LayerBench(AdaptiveAveragePool{.out = 1}, {{3, 5, 4}}, {3, 1, 1}, 2).worst_gradient_error(),
      kClose);
}

TEST(AdaptivePooling, WindowsOverlap) {  // of 5 to 2: [0, 3) and [2, 5)
  EXPECT_THAT(output_of(AdaptiveAveragePool{.out = 2}, {1, 5, 5}, {1, 2, 2}, counting(25)),
              ElementsAre(7, 9, 17, 19));
}

TEST(ReluGradient, IsZeroBelowZero) {
  EXPECT_LT(LayerBench(Relu{}, {{3, 4, 4}}, {3, 4, 4}, 2).worst_gradient_error(), kClose);
}

TEST(Relu, KeepsNaN) {
  const auto out = output_of(Relu{}, {3, 1, 1}, {3, 1, 1}, {-1, std::nan(""), 2});
  EXPECT_EQ(out[0], 0);
  EXPECT_TRUE(std::isnan(out[1]));
  EXPECT_EQ(out[2], 2);
}

TEST(AddGradient, ReachesBothBranches) {
  EXPECT_LT(LayerBench(Add{}, {{3, 2, 2}, {3, 2, 2}}, {3, 2, 2}, 2).worst_gradient_error(), kClose);
}

TEST(ConcatGradient, ReachesEveryPart) {
  EXPECT_LT(
      LayerBench(Concat{}, {{3, 2, 3}, {1, 2, 3}, {4, 2, 3}}, {8, 2, 3}, 2).worst_gradient_error(),
      kClose);
}

TEST(Concatenation, KeepsTheOrderOfParts) {
  LayerBench bench(Concat{}, {{1, 1, 2}, {2, 1, 2}}, {3, 1, 2}, 1);
  bench.inputs()[0] = {1, 2};
  bench.inputs()[1] = {10, 11, 20, 21};
  EXPECT_THAT(bench.forward(), ElementsAre(1, 10, 11, 2, 20, 21));
}

TEST(FlattenGradient, GoesBackToItsPixel) {
  EXPECT_LT(LayerBench(Flatten{}, {{3, 2, 4}}, {24, 1, 1}, 2).worst_gradient_error(), kClose);
}

TEST(Flattening, IsInOrderOfChannels) {  // pixels lie (h, w, c)
  EXPECT_THAT(output_of(Flatten{}, {2, 1, 3}, {6, 1, 1}, {1, 10, 2, 20, 3, 30}),
              ElementsAre(1, 2, 3, 10, 20, 30));
}

TEST(DropoutGradient, OfProbabilityZero) {
  EXPECT_LT(LayerBench(Dropout{0}, {{3, 2, 2}}, {3, 2, 2}, 2).worst_gradient_error(), kClose);
}

TEST(DroppingOut, KeepsTheMeanAndChangesWithEveryPass) {
  LayerBench bench(Dropout{0.25}, {{4000, 1, 1}}, {4000, 1, 1}, 1);
  bench.inputs()[0].assign(4000, 3.0);
  const auto first = bench.forward();
  EXPECT_THAT(first, Each(testing::AnyOf(0.0, 4.0)));
  const auto dropped = std::count(first.begin(), first.end(), 0.0);
  EXPECT_NEAR(static_cast<double>(dropped) / 4000, 0.25, 0.03);
  EXPECT_NE(bench.forward(), first);
  EXPECT_THAT(bench.forward(Pass::kEvaluation), Each(3.0));
}

// The checker itself: it must see a small mistake and a wrong sign.
TEST(FiniteDifferences, SeeAWrongSign) {
  LayerBench bench(Add{}, {{3, 2, 2}, {3, 2, 2}}, {3, 2, 2}, 2);
  bench.context().negate_residual_gradient = true;
  EXPECT_GT(bench.worst_gradient_error(), 1);
}

struct SlightlyWrong {};  // y = x, with a gradient that is 0.01 % too large
std::unique_ptr<Op<double>> make_op(const SlightlyWrong&, const Context<double>& context) {
  class Wrong final : public Op<double> {
   public:
    explicit Wrong(std::int64_t size) : size_(size) {}
    void forward(Inputs<double> in, double* out, Pass) override { std::copy_n(in[0], size_, out); }
    void backward_data(Inputs<double>, const double*, const double* dout,
                       std::span<double* const> din) override {
      for (std::int64_t i = 0; i < size_; ++i) din[0][i] += 1.0001 * dout[i];
    }

   private:
    std::int64_t size_;
  };
  return std::make_unique<Wrong>(context.out.elements() * context.batch);
}

TEST(FiniteDifferences, SeeASmallMistake) {
  EXPECT_GT(LayerBench(SlightlyWrong{}, {{3, 2, 2}}, {3, 2, 2}, 2).worst_gradient_error(),
            10 * kClose);
}

class LossGradient : public testing::TestWithParam<LossKind> {};

TEST_P(LossGradient, MatchesCentralDifferences) {
  const bool softmax = GetParam() == LossKind::kSoftmaxCrossEntropy;
  const int width = softmax ? 5 : 1;
  const std::vector<std::int32_t> labels = softmax ? std::vector{4, 0, 2} : std::vector{1, 0, 1};
  auto logits = random_values("logits", static_cast<std::size_t>(3 * width), 4);
  std::vector<double> gradient(logits.size(), 0.5);
  add_loss_gradient(GetParam(), logits.data(), width, labels, 0.3, gradient.data());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double value = logits[i];
    logits[i] = value + 1e-5;
    const double above = mean_loss(GetParam(), logits.data(), width, labels);
    logits[i] = value - 1e-5;
    const double below = mean_loss(GetParam(), logits.data(), width, labels);
    logits[i] = value;
    EXPECT_NEAR(gradient[i] - 0.5, 0.3 * (above - below) / 2e-5, 1e-9);
  }
}

INSTANTIATE_TEST_SUITE_P(Both, LossGradient,
                         testing::Values(LossKind::kSoftmaxCrossEntropy,
                                         LossKind::kSigmoidCrossEntropy));

TEST(Loss, SurvivesHugeLogitsAndShowsNaN) {
  const std::vector<double> huge{1000, -1000};
  EXPECT_DOUBLE_EQ(mean_loss(LossKind::kSoftmaxCrossEntropy, huge.data(), 2, std::vector{1}), 2000);
  EXPECT_DOUBLE_EQ(mean_loss(LossKind::kSigmoidCrossEntropy, huge.data(), 1, std::vector{0, 1}),
                   1000);
  const std::vector<double> broken{std::nan(""), 1};
  EXPECT_TRUE(
      std::isnan(mean_loss(LossKind::kSoftmaxCrossEntropy, broken.data(), 2, std::vector{1})));
  EXPECT_TRUE(
      std::isnan(mean_loss(LossKind::kSigmoidCrossEntropy, broken.data(), 1, std::vector{1, 0})));
}

}  // namespace
}  // namespace rackmark::worker::reference
