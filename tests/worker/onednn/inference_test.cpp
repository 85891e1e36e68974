// Inference on oneDNN against the evaluation pass of the plain backend in double.
#include <gtest/gtest.h>

#include "tests/worker/onednn/compare_inference.hpp"
#include "worker/backend/integer_values.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

using namespace test;  // compare.hpp, compare_inference.hpp

constexpr double kBfloatTolerance = 0.03;  // a few layers, each off by up to 1/512

void expect_same_in_all_ways(const Build& build, int size = 12) {
  const Net net = test::make_net(size, 5, build);
  for (const int batch : {1, 3}) {
    expect_same(net, batch);
    expect_same(net, batch, "none");
    expect_same(net, batch, "", kBfloatTolerance, "fp64", 1, "bf16");
  }
}

void classify(Net& net, Node x) {
  net.loss(net.linear(net.flatten(x), "fc", {.out = net.classes()}));
}

Node conv(Net& net, Node x, const char* name, int out, int kernel = 3, int stride = 1) {
  return net.conv2d(x, name,
                    {.out = out,
                     .kernel_h = kernel,
                     .kernel_w = kernel,
                     .stride = stride,
                     .pad_h = kernel / 2,
                     .pad_w = kernel / 2});
}

TEST(Inference, FoldsBatchNormAndReluIntoConvolutions) {
  expect_same_in_all_ways([](Net& net) {
    Node x = net.relu(net.batch_norm(conv(net, net.input(), "a", 20), "bn_a"));
    x = net.batch_norm(conv(net, x, "b", 9, 1), "bn_b");
    classify(net, net.relu(conv(net, x, "c", 16)));
  });
}

// AlexNet's first layer: with AVX2 only its padding keeps oneDNN from a vector kernel.
TEST(Inference, PicturesWithZerosAroundThem) {
  const Conv2d first{
      .out = 24, .kernel_h = 11, .kernel_w = 11, .stride = 4, .pad_h = 2, .pad_w = 2, .bias = true};
  const auto describe = [&](Net& net) {
    classify(net, net.relu(net.conv2d(net.input(), "a", first)));
  };
  expect_same_in_all_ways(describe, 43);
  const Net net = test::make_net(43, 6, describe);
  const auto plan = fast_plan(net, {});
  for (const OpTime& op : plan->profile({.images = make_images(net, 1, 0)})) {
    if (op.node != "a") continue;
    EXPECT_EQ(op.implementation.find("gemm"), std::string::npos);
  }
}

TEST(Inference, BatchNormWithoutConvolution) {
  expect_same_in_all_ways([](Net& net) {
    Node x = net.max_pool(conv(net, net.input(), "a", 24), {});
    classify(net, net.relu(net.batch_norm(x, "bn")));
  });
}

TEST(Inference, AddsIntoTheResidual) {
  expect_same_in_all_ways([](Net& net) {
    const Node x = net.relu(conv(net, net.input(), "a", 16));
    Node y = net.relu(conv(net, x, "b", 16));
    y = net.relu(net.add(net.batch_norm(conv(net, y, "c", 16), "bn"), x));
    const Node skip = conv(net, y, "d", 32, 1, 2);
    Node z = conv(net, conv(net, y, "e", 8, 1), "f", 32, 3, 2);
    classify(net, net.add(z, skip));
  });
}

// Wide enough for Winograd.
TEST(Inference, WideConvolutionsWithAndWithoutResidual) {
  expect_same_in_all_ways(
      [](Net& net) {
        const Node x = net.relu(conv(net, net.input(), "stem", 36, 1));
        const Node y = conv(net, net.relu(conv(net, x, "a", 36)), "b", 36);
        const Conv2d inside{.out = 44, .kernel_h = 3, .kernel_w = 3, .bias = true};
        classify(net, net.conv2d(net.relu(net.add(y, x)), "c", inside));
      },
      19);
}

// These two would be wrong if the sum were written over a value that somebody still reads.
TEST(Inference, KeepsAResidualThatOthersRead) {
  expect_same_in_all_ways([](Net& net) {
    const Node x = net.relu(conv(net, net.input(), "a", 16));
    const Node first = net.add(conv(net, x, "b", 16), x);  // x is read again below
    const Node second = net.add(conv(net, first, "c", 16), x);
    const Node third = net.add(conv(net, second, "d", 16, 1), second);  // reads what it would take
    classify(net, net.add(third, net.max_pool(third, {.kernel = 3, .stride = 1, .pad = 1})));
  });
}

TEST(Inference, KeepsAResidualThatADelayedConvolutionReads) {
  expect_same_in_all_ways([](Net& net) {
    const Node x = net.relu(conv(net, net.input(), "a", 16));
    const Node other = conv(net, net.relu(conv(net, net.input(), "b", 16)), "c", 16);
    const Node late = conv(net, x, "late", 16);  // would run with the last sum
    const Node sum = net.add(other, x);
    classify(net, net.add(late, net.relu(sum)));
  });
}

TEST(Inference, JoinsPartsOfEvenAndUnevenWidth) {
  expect_same_in_all_ways([](Net& net) {
    const Node x = net.relu(conv(net, net.input(), "a", 16));
    const Node even =
        net.concat({net.relu(conv(net, x, "b", 16, 1)),
                    net.max_pool(x, {.kernel = 3, .stride = 1, .pad = 1}), conv(net, x, "c", 5)});
    const Node odd = net.concat({conv(net, even, "d", 5), x, x});
    classify(net, net.concat({net.relu(conv(net, odd, "e", 32)), odd}));
  });
}

TEST(Inference, PoolsOfAllKinds) {
  expect_same_in_all_ways(
      [](Net& net) {
        Node x = conv(net, net.input(), "a", 12);
        x = net.max_pool(x, {.kernel = 3, .stride = 2, .pad = 1, .ceil_mode = true});
        x = net.average_pool(x, {.kernel = 3, .stride = 1, .pad = 1});
        x = net.adaptive_average_pool(net.relu(x), {.out = 5});  // windows overlap
        classify(net, net.adaptive_average_pool(x, {.out = 1}));
      },
      15);
}

TEST(Inference, ResponseNormDropoutAndLinearLayers) {
  expect_same_in_all_ways([](Net& net) {
    Node x = net.relu(conv(net, net.input(), "a", 16));
    x = net.local_response_norm(x, {.size = 9, .alpha = 0.01, .beta = 0.75, .k = 1});
    x = net.local_response_norm(x, {.size = 4, .alpha = 0.1, .beta = 0.5, .k = 2});
    x = net.dropout(net.flatten(net.dropout(x, 0.3)), 0.5);
    x = net.relu(net.linear(x, "fc1", {.out = 30}));
    net.loss(net.linear(net.dropout(x, 0.5), "fc2", {.out = net.classes()}));
  });
}

TEST(Inference, LayersOnTheInputItself) {
  expect_same_in_all_ways([](Net& net) {
    const Node x = net.relu(net.max_pool(net.input(), {}));
    classify(net, net.add(net.relu(x), net.batch_norm(x, "bn")));
  });
  expect_same_in_all_ways([](Net& net) { classify(net, net.relu(net.input())); });
  expect_same_in_all_ways([](Net& net) { classify(net, net.concat({net.input(), net.input()})); });
}

// --- int8

// As expect_same, with ranges from other pictures than those that are asked about.
double distance_of_int8(const Net& net, int batch, float brightness = 1) {
  InferOptions options;
  options.batch = batch;
  options.precision = "int8";
  const auto pictures = [&](int seed) {
    auto images = make_images(net, batch, seed);
    for (float& value : images) value *= brightness;
    return images;
  };
  for (int i = 0; i < 4; ++i) options.calibration.push_back(pictures(100 + i));
  const auto plan = fast_plan(net, options);
  EXPECT_NE(plan->facts().notes.at("int8 layers").find("fp32: "), std::string::npos);
  const auto images = pictures(7);
  plan->run({.images = images});
  return test::relative_distance(plan->logits(), exact_logits(net, batch, images));
}

// Few layers, so that 7 bits cost some hundredths; a wrong scale costs all.
constexpr double kFewRoundings = 0.05;

TEST(InferenceInt8, ConvolutionsPoolsAndJoins) {
  const Net net = test::make_net(17, 6, [](Net& n) {
    Node x = n.relu(n.batch_norm(conv(n, n.input(), "a", 16), "bn_a"));
    x = n.max_pool(x, {.kernel = 3, .stride = 2, .pad = 1, .ceil_mode = true});
    const Node wide = n.relu(conv(n, x, "b", 24, 1));
    const Node three = n.relu(conv(n, n.relu(conv(n, x, "c", 8, 1)), "d", 5));
    const Node pool = n.average_pool(x, {.kernel = 3, .stride = 1, .pad = 1});
    x = n.concat({wide, three, pool});
    x = n.relu(conv(n, x, "e", 32));
    classify(n, n.adaptive_average_pool(x, {.out = 1}));
  });
  for (const int batch : {1, 3}) EXPECT_LT(distance_of_int8(net, batch), kFewRoundings) << batch;
}

// The residual is unsigned in the first sum, signed in the second, float in the last.
TEST(InferenceInt8, SumsWithResidualsOfEverySign) {
  const Net net = test::make_net(12, 6, [](Net& n) {
    const Node x = n.relu(conv(n, n.input(), "a", 16));
    Node y = n.relu(conv(n, x, "b", 16));
    y = n.relu(n.add(n.batch_norm(conv(n, y, "c", 16), "bn"), x));
    const Node skip = conv(n, y, "d", 32, 1, 2);
    Node z = n.relu(conv(n, y, "e", 8, 1));
    z = n.relu(n.add(conv(n, z, "f", 32, 3, 2), skip));
    const Node last = n.relu(conv(n, z, "g", 16, 1));
    classify(n, n.relu(n.add(conv(n, last, "h", 32), z)));
  });
  for (const int batch : {1, 3}) EXPECT_LT(distance_of_int8(net, batch), kFewRoundings) << batch;
}

TEST(InferenceInt8, LinearLayersAndResponseNorm) {
  const Net net = test::make_net(12, 6, [](Net& n) {
    Node x = n.relu(conv(n, n.input(), "a", 16));
    x = n.local_response_norm(n.max_pool(x, {}), {.size = 5, .alpha = 0.1});
    x = n.flatten(n.relu(conv(n, x, "b", 8)));
    x = n.relu(n.linear(n.dropout(x, 0.5), "fc1", {.out = 40}));
    n.loss(n.linear(x, "fc2", {.out = n.classes()}));
  });
  for (const int batch : {1, 3}) EXPECT_LT(distance_of_int8(net, batch), kFewRoundings) << batch;
  EXPECT_LT(distance_of_int8(build_model("cifar10"), 2), kFewRoundings);
}

// Values far below 1 through layers that make none of their own: a flatten, and at batch 1 a join.
TEST(InferenceInt8, TakesTheStepsOfJoinsAndFlattensFromTheirInputs) {
  const Net net = test::make_net(12, 6, [](Net& n) {
    const Node x = n.max_pool(n.relu(conv(n, n.input(), "a", 16)), {});
    const Node join = n.concat({n.relu(conv(n, x, "b", 16)), n.relu(conv(n, x, "c", 16))});
    const Node y = n.relu(n.linear(n.flatten(join), "fc1", {.out = 40, .bias = false}));
    n.loss(n.linear(y, "fc2", {.out = n.classes(), .bias = false}));
  });
  for (const int batch : {1, 3}) {
    EXPECT_LT(distance_of_int8(net, batch, 0.01F), kFewRoundings) << batch;
  }
}

TEST(InferenceInt8, RefusesWithoutCalibrationAndUnknownPrecisions) {
  const Net net = test::make_net(12, 6, [](Net& n) { classify(n, conv(n, n.input(), "a", 4)); });
  InferOptions options;
  options.precision = "int8";
  EXPECT_THROW(fast_plan(net, options), std::invalid_argument);
  options.calibration = {std::vector<float>(5)};
  EXPECT_THROW(fast_plan(net, options), std::invalid_argument);
  options.precision = "fp8";
  EXPECT_THROW(fast_plan(net, options), std::invalid_argument);
}

TEST(Inference, PredictsItsMemoryAndSaysWhoComputesBf16) {
  const Net net = test::make_net(17, 6, [](Net& n) {
    Node x = n.relu(n.batch_norm(conv(n, n.input(), "a", 16), "bn_a"));
    classify(n, n.relu(conv(n, n.max_pool(x, {}), "b", 24)));
  });
  for (const char* precision : {"fp32", "bf16", "int8"}) {
    InferOptions options;
    options.batch = 3;
    options.threads = 2;
    options.precision = precision;
    const auto predicted =
        make_onednn_backend()->predict_inference_bytes(net, options, make_values(net));
    if (precision == std::string("int8")) options.calibration = {make_images(net, 3, 1)};
    const auto facts = fast_plan(net, options)->facts();
    EXPECT_EQ(predicted, facts.arena_bytes) << precision;
    EXPECT_EQ(facts.notes.contains("bf16"), precision == std::string("bf16"));
  }
}

// Of as many values as `often` says, and one more.
float peak_of(const std::vector<float>& values, int often, float one_more) {
  ValueRange range;
  EXPECT_TRUE(range.see(values));
  EXPECT_TRUE(range.see(std::vector{one_more}));
  for (int i = 0; i < often; ++i) range.count(values);
  range.count(std::vector{one_more});
  return range.peak(255);
}

TEST(InferenceInt8, ClipsOutliersOnly) {
  std::vector<float> even, lower;
  for (int i = 1; i <= 2048; ++i) even.push_back(static_cast<float>(i) / 256);
  for (int i = 1; i <= 2048; ++i) lower.push_back(static_cast<float>(i) / 1024);
  EXPECT_GT(peak_of(even, 1, 8), 7.8F);
  EXPECT_LT(peak_of(lower, 2000, 8), 2.2F);
  EXPECT_EQ(peak_of({0, 0}, 1, 0), 0);
  EXPECT_FALSE(ValueRange().see(std::vector<float>{1, NAN}));
}

}  // namespace
}  // namespace rackmark::worker
