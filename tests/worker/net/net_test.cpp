#include "worker/net/net.hpp"

#include <gmock/gmock.h>

#include <stdexcept>

namespace rackmark::worker {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

template <class Build>
std::string refusal(const Build& build) {
  Net net("tiny", 8, 10);
  try {
    build(net);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(Shapes, Convolution) {
  Net net("tiny", 9, 10);
  EXPECT_EQ(net.shape(net.conv2d(net.input(), "same",
                                 {.out = 5, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1})),
            (Shape{5, 9, 9}));
  EXPECT_EQ(net.shape(net.conv2d(net.input(), "stride",
                                 {.out = 5, .kernel_h = 3, .kernel_w = 3, .stride = 2})),
            (Shape{5, 4, 4}));
  EXPECT_EQ(net.shape(net.conv2d(net.input(), "flat",
                                 {.out = 5, .kernel_h = 1, .kernel_w = 7, .pad_w = 3})),
            (Shape{5, 9, 9}));
}

TEST(Shapes, Pools) {
  Net net("tiny", 6, 10);
  const Node x = net.input();
  EXPECT_EQ(net.shape(net.max_pool(x, {.kernel = 3, .stride = 2})), (Shape{3, 2, 2}));
  EXPECT_EQ(net.shape(net.max_pool(x, {.kernel = 3, .stride = 2, .ceil_mode = true})),
            (Shape{3, 3, 3}));
  EXPECT_EQ(net.shape(net.average_pool(x, {.kernel = 3, .stride = 1, .pad = 1})), (Shape{3, 6, 6}));
  EXPECT_EQ(net.shape(net.adaptive_average_pool(x, {.out = 4})), (Shape{3, 4, 4}));
}

// The last window may hang over the end, but one that starts in the right padding sees nothing.
TEST(Shapes, CeilModeDropsAWindowInThePadding) {
  Net net("tiny", 5, 10);
  EXPECT_EQ(
      net.shape(net.max_pool(net.input(), {.kernel = 2, .stride = 2, .pad = 1, .ceil_mode = true})),
      (Shape{3, 3, 3}));
  Net even("tiny", 6, 10);  // ceil((6 + 2 - 2) / 4) + 1 = 3, whose last window starts at 7
  EXPECT_EQ(even.shape(even.max_pool(even.input(),
                                     {.kernel = 2, .stride = 4, .pad = 1, .ceil_mode = true})),
            (Shape{3, 2, 2}));
}

TEST(Shapes, JoinsAndFlatten) {
  Net net("tiny", 6, 10);
  const Node x = net.input();
  const Node y = net.conv2d(x, "conv", {.out = 5});
  EXPECT_EQ(net.shape(net.concat({x, y, x})), (Shape{11, 6, 6}));
  EXPECT_EQ(net.shape(net.add(x, x)), (Shape{3, 6, 6}));
  EXPECT_EQ(net.shape(net.flatten(y)), (Shape{180, 1, 1}));
  EXPECT_EQ(net.shape(net.linear(net.flatten(y), "fc", {.out = 7})), (Shape{7, 1, 1}));
}

TEST(Parameters, HaveNamesShapesAndKinds) {
  Net net("tiny", 8, 10);
  Node x = net.conv2d(net.input(), "conv", {.out = 4, .kernel_h = 3, .kernel_w = 5, .bias = true});
  x = net.flatten(net.batch_norm(x, "bn"));
  net.loss(net.linear(x, "fc", {.out = 10}));
  const auto& p = net.parameters();
  ASSERT_EQ(p.size(), 6u);
  EXPECT_EQ(p[0].name, "conv.weight");
  EXPECT_THAT(p[0].dims, ElementsAre(4, 3, 3, 5));
  EXPECT_EQ(p[1].name, "conv.bias");
  EXPECT_EQ(p[1].kind, ParameterKind::kBias);
  EXPECT_EQ(p[2].name, "bn.weight");
  EXPECT_EQ(p[3].kind, ParameterKind::kBatchNormBias);
  EXPECT_EQ(p[4].name, "fc.weight");
  EXPECT_THAT(p[4].dims, ElementsAre(10, 4 * 6 * 4));
  EXPECT_EQ(net.parameter_count(), 180 + 4 + 4 + 4 + 960 + 10);
  ASSERT_EQ(net.running_statistics().size(), 2u);
  EXPECT_EQ(net.running_statistics()[0].name, "bn.running_mean");
  EXPECT_EQ(net.running_statistics()[1].name, "bn.running_var");
}

TEST(Flop, CountsConvolutionsAndLinearLayers) {
  Net net("tiny", 8, 10);
  Node x = net.conv2d(net.input(), "first", {.out = 4, .kernel_h = 3, .kernel_w = 3, .bias = true});
  x = net.conv2d(net.relu(x), "second", {.out = 2});
  net.loss(net.linear(net.flatten(x), "fc", {.out = 10}));
  EXPECT_DOUBLE_EQ(net.inference_flop_per_image(), net.forward_flop_per_image());
  const double first = 2.0 * 27 * 4 * 36, second = 2.0 * 4 * 2 * 36, fc = 2.0 * 72 * 10;
  EXPECT_DOUBLE_EQ(net.forward_flop_per_image(), first + second + fc);
  EXPECT_DOUBLE_EQ(net.training_flop_per_image(), 2 * first + 3 * second + 3 * fc);
  net.loss(net.linear(net.flatten(x), "auxiliary", {.out = 10}), 0.3);
  EXPECT_DOUBLE_EQ(net.forward_flop_per_image(), first + second + 2 * fc);
  EXPECT_DOUBLE_EQ(net.inference_flop_per_image(), first + second + fc);
}

TEST(Refuses, WhatDoesNotFit) {
  EXPECT_THAT(
      refusal([](Net& n) { n.conv2d(n.input(), "big", {.out = 1, .kernel_h = 9, .kernel_w = 9}); }),
      AllOf(HasSubstr("'big'"), HasSubstr("kernel 9"), HasSubstr("3x8x8")));
  EXPECT_THAT(refusal([](Net& n) { n.conv2d(n.input(), "none", {}); }), HasSubstr("'none'"));
  EXPECT_THAT(refusal([](Net& n) { n.conv2d(n.input(), "still", {.out = 1, .stride = 0}); }),
              HasSubstr("stride 0"));
  EXPECT_THAT(refusal([](Net& n) { n.max_pool(n.input(), {.kernel = 3, .pad = 2}); }),
              HasSubstr("more than half of kernel 3"));
  EXPECT_THAT(refusal([](Net& n) { n.add(n.input(), n.conv2d(n.input(), "c", {.out = 4})); }),
              AllOf(HasSubstr("3x8x8"), HasSubstr("4x8x8")));
  EXPECT_THAT(refusal([](Net& n) {
                n.concat({n.input(), n.max_pool(n.input(), {})});
              }),
              AllOf(HasSubstr("3x8x8"), HasSubstr("3x4x4")));
  EXPECT_THAT(refusal([](Net& n) { n.concat({}); }), HasSubstr("nothing"));
  EXPECT_THAT(refusal([](Net& n) { n.linear(n.input(), "fc", {.out = 4}); }),
              AllOf(HasSubstr("'fc'"), HasSubstr("flat")));
  EXPECT_THAT(refusal([](Net& n) { n.dropout(n.input(), 1); }), HasSubstr("probability"));
  EXPECT_THAT(refusal([](Net& n) { n.adaptive_average_pool(n.input(), {.out = 0}); }),
              HasSubstr("at least 1"));
  EXPECT_THAT(refusal([](Net& n) { n.local_response_norm(n.input(), {.size = 0}); }),
              HasSubstr("size"));
}

TEST(Refuses, WrongNamesAndNodes) {
  EXPECT_THAT(refusal([](Net& n) {
                n.batch_norm(n.input(), "twice");
                n.batch_norm(n.input(), "twice");
              }),
              AllOf(HasSubstr("'twice'"), HasSubstr("used twice")));
  EXPECT_THAT(refusal([](Net& n) { n.batch_norm(n.input(), ""); }), HasSubstr("no name"));
  EXPECT_THAT(refusal([](Net& n) { n.relu({}); }), HasSubstr("does not exist"));
  EXPECT_THAT(refusal([](Net& n) { n.relu({7}); }), HasSubstr("node 7"));
}

TEST(Refuses, LossesOfTheWrongWidth) {
  EXPECT_THAT(refusal([](Net& n) { n.loss(n.linear(n.flatten(n.input()), "fc", {.out = 9})); }),
              AllOf(HasSubstr("'fc'"), HasSubstr("10x1x1"), HasSubstr("9x1x1")));
  EXPECT_THAT(refusal([](Net& n) { n.set_loss_kind(LossKind::kSigmoidCrossEntropy); }),
              HasSubstr("two classes apart, not 10"));
  Net two("two", 8, 2);
  two.set_loss_kind(LossKind::kSigmoidCrossEntropy);
  EXPECT_THROW(two.loss(two.linear(two.flatten(two.input()), "fc", {.out = 2})),
               std::invalid_argument);
  EXPECT_THROW(Net("tiny", 0, 10), std::invalid_argument);
  EXPECT_THROW(Net("tiny", 8, 1), std::invalid_argument);
}

// Numbers of tests/golden/README.md.
TEST(Values, UniformIsTheSameEverywhere) {
  EXPECT_THAT(uniform("1:input", 3), ElementsAre(0.0443793535f, -0.942322373f, 0.413208365f));
}

TEST(Values, FollowTheKindOfParameter) {
  const auto first = [](ParameterKind kind, std::vector<std::int64_t> dims) {
    const Parameter parameter{"input", kind, 0, std::move(dims)};  // "1:input", as above
    return initial_value(parameter, 1)[0];
  };
  EXPECT_THAT(first(ParameterKind::kConvWeight, {2, 6, 2, 2}), FloatEq(0.0443793535f * 0.5f));
  EXPECT_THAT(first(ParameterKind::kLinearWeight, {2, 16}), FloatEq(0.0443793535f * 0.25f));
  EXPECT_THAT(first(ParameterKind::kBias, {2}), FloatEq(0.0443793535f * 0.01f));
  EXPECT_THAT(first(ParameterKind::kBatchNormWeight, {2}), FloatEq(1 + 0.00443793535f));
  EXPECT_THAT(first(ParameterKind::kBatchNormBias, {2}), FloatEq(0.00443793535f));
}

}  // namespace
}  // namespace rackmark::worker
