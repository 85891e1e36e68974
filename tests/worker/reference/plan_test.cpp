// The plain backend's plan as a whole: graph, gradients by finite differences, update, evaluation.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <stdexcept>

#include "worker/backend/reference/reference.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::Pointwise;

constexpr int kBatch = 3, kSize = 9, kClasses = 5;

// Every layer once, a branch used twice, and an auxiliary head.
Net every_layer(LossKind kind = LossKind::kSoftmaxCrossEntropy) {
  const bool sigmoid = kind == LossKind::kSigmoidCrossEntropy;
  const int logits = sigmoid ? 1 : kClasses;
  Net net("every_layer", kSize, sigmoid ? 2 : kClasses);
  net.set_loss_kind(kind);
  Node x =
      net.conv2d(net.input(), "conv",
                 {.out = 6, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .bias = true});
  x = net.relu(net.batch_norm(x, "bn"));
  x = net.max_pool(x, {.kernel = 3, .stride = 2, .ceil_mode = true});
  x = net.local_response_norm(x, {.size = 3, .alpha = 0.5});
  const Node branch = net.conv2d(x, "branch", {.out = 6, .bias = true});
  x = net.add(branch, x);
  const Node auxiliary = net.adaptive_average_pool(x, {.out = 3});
  net.loss(net.linear(net.flatten(x), "fc", {.out = logits}));
  net.loss(
      net.linear(net.flatten(net.concat({auxiliary, auxiliary})), "auxiliary", {.out = logits}),
      0.3);
  x = net.dropout(net.average_pool(x, {.kernel = 2, .stride = 1}), 0.5);
  net.linear(net.flatten(x), "unused", {.out = 2});  // no loss depends on it
  return net;
}

struct Data {
  std::vector<float> images = uniform("plan:images", std::int64_t{kBatch} * 3 * kSize * kSize);
  std::vector<std::int32_t> labels{1, 0, 1};
  Batch batch() const { return {images, labels}; }
};

std::unique_ptr<TrainPlan> compiled(const Net& net, PlanOptions options = {}) {
  options.batch = kBatch;
  options.dropout = false;
  if (options.threads == 0) options.threads = 1;
  auto plan = make_reference_backend()->compile(net, options);
  for (std::size_t p = 0; p < net.parameters().size(); ++p) {
    plan->write_parameter(static_cast<int>(p), initial_value(net.parameters()[p], 3));
  }
  return plan;
}

int index_of(const Net& net, const std::string& name) {
  for (std::size_t p = 0; p < net.parameters().size(); ++p) {
    if (net.parameters()[p].name == name) return static_cast<int>(p);
  }
  throw std::logic_error("no parameter " + name);
}

template <class Call>
std::string refusal_of_call(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

class WholeGradient : public testing::TestWithParam<LossKind> {};

TEST_P(WholeGradient, MatchesCentralDifferencesOfTheLoss) {
  const Data data;
  const Net net = every_layer(GetParam());
  const auto plan = compiled(net, {.precision = "fp64"});
  plan->forward(data.batch());
  plan->backward();
  for (std::size_t p = 0; p < net.parameters().size(); ++p) {
    const int parameter = static_cast<int>(p);
    auto values = initial_value(net.parameters()[p], 3);
    const auto gradient = plan->read_gradient(parameter);
    const double largest = std::abs(*std::max_element(
        gradient.begin(), gradient.end(), [](double a, double b) { return abs(a) < abs(b); }));
    const auto loss_at = [&](std::size_t i, float value) {
      values[i] = value;
      plan->write_parameter(parameter, values);
      return plan->forward(data.batch());
    };
    for (std::size_t i = 0; i < values.size(); i += 1 + values.size() / 20) {
      const float value = values[i];
      const float above = value + 0x1p-15f, below = value - 0x1p-15f;
      const double numeric =
          (loss_at(i, above) - loss_at(i, below)) / (static_cast<double>(above) - below);
      loss_at(i, value);
      EXPECT_NEAR(gradient[i], numeric, 1e-6 * std::max(largest, 1e-2))
          << net.parameters()[p].name << "[" << i << "]";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(BothLosses, WholeGradient,
                         testing::Values(LossKind::kSoftmaxCrossEntropy,
                                         LossKind::kSigmoidCrossEntropy));

TEST(Plan, ReportsEveryGradientOnceInTheOrderOfTheBlock) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net);
  plan->forward(data.batch());
  std::int64_t expected_offset = 0;
  std::size_t reported = 0;
  plan->backward([&](int parameter) {
    const auto extent = plan->extent(parameter);
    EXPECT_EQ(extent.offset, expected_offset);
    EXPECT_EQ(extent.count, net.parameters()[static_cast<std::size_t>(parameter)].elements());
    expected_offset += extent.count;
    ++reported;
  });
  EXPECT_EQ(reported, net.parameters().size());
  EXPECT_EQ(std::ssize(plan->gradient_block()), expected_offset);
  EXPECT_EQ(std::ssize(plan->parameter_block()), expected_offset);
}

// A gradient must not change after ready(): an exchange may already have sent it.
TEST(Plan, AGradientIsFinalWhenItIsReported) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net);
  plan->forward(data.batch());
  std::vector<std::vector<double>> reported(net.parameters().size());
  plan->backward([&](int p) { reported[static_cast<std::size_t>(p)] = plan->read_gradient(p); });
  for (std::size_t p = 0; p < reported.size(); ++p) {
    EXPECT_EQ(plan->read_gradient(static_cast<int>(p)), reported[p]);
  }
}

TEST(Plan, OverwritesGradients) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net);
  plan->forward(data.batch());
  plan->backward();
  const std::vector<float> first(plan->gradient_block().begin(), plan->gradient_block().end());
  for (float& g : plan->gradient_block()) g = 99;
  plan->forward(data.batch());
  plan->backward();
  EXPECT_THAT(plan->gradient_block(), testing::ElementsAreArray(first));
  EXPECT_THAT(plan->read_gradient(index_of(net, "unused.weight")), Each(0.0));
}

TEST(Plan, DoesNotDependOnThreads) {
  const Data data;
  const Net net = every_layer();
  const auto trained = [&](int threads) {
    const auto plan = compiled(net, {.threads = threads});
    for (int step = 0; step < 2; ++step) {
      plan->forward(data.batch());
      plan->backward();
      plan->update({});
    }
    return std::vector<float>(plan->parameter_block().begin(), plan->parameter_block().end());
  };
  EXPECT_EQ(trained(1), trained(3));
}

TEST(Plan, ParametersAndGradientsKeepTorchvisionsOrder) {
  const Net net = every_layer();
  const auto plan = compiled(net);
  for (std::size_t p = 0; p < net.parameters().size(); ++p) {
    EXPECT_THAT(plan->read_parameter(static_cast<int>(p)),
                testing::ElementsAreArray(initial_value(net.parameters()[p], 3)));
  }
}

TEST(Plan, UpdatesWithMomentumAndWeightDecay) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net, {.precision = "fp64"});
  const int p = index_of(net, "branch.weight");
  const SgdStep step{.learning_rate = 0.1, .momentum = 0.5, .weight_decay = 0.2};
  double weight = plan->read_parameter(p)[7], velocity = 0;
  for (int i = 0; i < 3; ++i) {
    plan->forward(data.batch());
    plan->backward();
    velocity = (i == 0 ? 0 : 0.5 * velocity) + plan->read_gradient(p)[7] + 0.2 * weight;
    weight -= 0.1 * velocity;
    plan->update(step);
    EXPECT_NEAR(plan->read_parameter(p)[7], weight, 1e-14) << "step " << i;
  }
}

TEST(Plan, UpdatesFromTheGradientBlock) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net);
  plan->forward(data.batch());
  plan->backward();
  for (float& g : plan->gradient_block()) g = 2;
  const std::vector<float> before(plan->parameter_block().begin(), plan->parameter_block().end());
  plan->update({.learning_rate = 0.5, .momentum = 0, .weight_decay = 0});
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_FLOAT_EQ(plan->parameter_block()[i], before[i] - 1);
  }
}

TEST(Plan, EvaluatesWithRunningStatisticsAndWithoutAuxiliaryHeads) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net);
  plan->evaluate(data.batch());
  const auto before = plan->logits();
  EXPECT_EQ(before.size(), std::size_t{kBatch} * kClasses);
  plan->write_parameter(index_of(net, "auxiliary.bias"), std::vector<float>(kClasses, 50));
  plan->evaluate(data.batch());
  EXPECT_EQ(plan->logits(), before);
  EXPECT_THAT(plan->read_running(0), Each(0.0));  // evaluation does not update them
  plan->write_running(1, std::vector<float>(6, 9));
  plan->evaluate(data.batch());
  EXPECT_NE(plan->logits(), before);
  EXPECT_THAT(plan->read_running(1), Each(9.0));
}

TEST(Plan, TrainingUpdatesRunningStatistics) {
  const Data data;
  const auto plan = compiled(every_layer());
  plan->forward(data.batch());
  EXPECT_THAT(plan->read_running(0), Each(testing::Ne(0.0)));
  EXPECT_THAT(plan->read_running(1), Each(testing::Ne(1.0)));
}

TEST(Plan, FloatAndDoubleAgree) {
  const Data data;
  const Net net = every_layer();
  const auto narrow = compiled(net), wide = compiled(net, {.precision = "fp64"});
  EXPECT_NEAR(narrow->forward(data.batch()), wide->forward(data.batch()), 1e-6);
  narrow->backward();
  wide->backward();
  const int p = index_of(net, "conv.weight");
  EXPECT_THAT(narrow->read_gradient(p),
              Pointwise(testing::DoubleNear(1e-6), wide->read_gradient(p)));
  EXPECT_TRUE(wide->gradient_block().empty());
  EXPECT_NE(narrow->layout_key(), wide->layout_key());
}

TEST(Plan, DropsOutUnlessToldNotTo) {
  const Data data;
  Net net("drop", kSize, kClasses);
  net.loss(net.linear(net.flatten(net.dropout(net.input(), 0.5)), "fc", {.out = kClasses}));
  const auto loss_with = [&](PlanOptions options) {
    options.batch = kBatch;
    const auto plan = make_reference_backend()->compile(net, options);
    plan->write_parameter(0, initial_value(net.parameters()[0], 3));
    return plan->forward(data.batch());
  };
  EXPECT_EQ(loss_with({.masks = {.seed = 1}}), loss_with({.masks = {.seed = 1}}));
  EXPECT_NE(loss_with({.masks = {.seed = 1}}), loss_with({.masks = {.seed = 2}}));
  EXPECT_EQ(loss_with({.dropout = false, .masks = {.seed = 1}}),
            loss_with({.dropout = false, .masks = {.seed = 2}}));
}

TEST(Faults, NegateOneGradientOrTheResidualBranch) {
  const Data data;
  const Net net = every_layer();
  const auto gradient = [&](Faults faults, const std::string& name) {
    const auto plan = compiled(net, {.faults = faults});
    plan->forward(data.batch());
    plan->backward();
    return plan->read_gradient(index_of(net, name));
  };
  auto negated = gradient({.negate_gradient = "bn.weight"}, "bn.weight");
  for (double& g : negated) g = -g;
  EXPECT_EQ(negated, gradient({}, "bn.weight"));
  EXPECT_EQ(gradient({.negate_gradient = "bn.weight"}, "conv.weight"), gradient({}, "conv.weight"));
  const Faults residual{.negate_residual_gradient = true};
  EXPECT_EQ(gradient(residual, "branch.weight"), gradient({}, "branch.weight"));
  EXPECT_NE(gradient(residual, "conv.weight"), gradient({}, "conv.weight"));
}

TEST(Profile, TimesEveryLayerAndChangesNothing) {
  const Data data;
  const Net net = every_layer();
  const auto plan = compiled(net);
  const auto running = plan->read_running(0);
  const auto weights = plan->read_parameter(0);
  const auto times = plan->profile(data.batch());
  EXPECT_EQ(times.size(), 3 * (net.nodes().size() - 1));
  double gflop = 0;
  for (const auto& time : times) {
    EXPECT_GE(time.ms, 0);
    if (time.pass == "forward") gflop += time.gflop;
  }
  EXPECT_NEAR(gflop, kBatch * net.forward_flop_per_image() / 1e9, 1e-12);
  EXPECT_EQ(plan->read_running(0), running);
  EXPECT_EQ(plan->read_parameter(0), weights);
  plan->forward(data.batch());  // running statistics are still connected
  EXPECT_NE(plan->read_running(0), running);
}

TEST(Refuses, BatchesThatDoNotFit) {
  const Data data;
  const auto plan = compiled(every_layer());
  EXPECT_THAT(refusal_of_call([&] { plan->backward(); }), HasSubstr("forward pass"));
  EXPECT_THAT(refusal_of_call([&] {
                plan->forward({data.images, std::vector<std::int32_t>{0, 1, 5}});
              }),
              HasSubstr("label 5 is not in 0 to 4"));
  EXPECT_THAT(refusal_of_call([&] {
                plan->forward({data.images, std::vector<std::int32_t>{0, 1}});
              }),
              HasSubstr("labels has 2 values, not 3"));
  EXPECT_THAT(refusal_of_call([&] {
                plan->evaluate({std::vector<float>(9), data.labels});
              }),
              HasSubstr("images has 9 values"));
  EXPECT_THAT(refusal_of_call([&] { plan->write_parameter(1, std::vector<float>(2)); }),
              HasSubstr("conv.bias has 2 values, not 6"));
  EXPECT_THAT(refusal_of_call([&] { plan->read_parameter(99); }), testing::Not(""));
}

TEST(Refuses, PlansThatCannotTrain) {
  const auto backend = make_reference_backend();
  const Net net = every_layer();
  EXPECT_THAT(refusal_of_call([&] { backend->compile(net, {.batch = 0}); }), HasSubstr("batch"));
  EXPECT_THAT(refusal_of_call([&] { backend->compile(net, {.precision = "int8"}); }),
              HasSubstr("no precision 'int8', only fp32, bf16, fp16, tf32, fp64"));
  EXPECT_THAT(refusal_of_call([&] { backend->compile(Net("empty", 8, 2), {}); }),
              HasSubstr("no loss"));
  Net lone("lone", 1, 3);
  lone.loss(lone.batch_norm(lone.input(), "bn"));
  EXPECT_THAT(refusal_of_call([&] { backend->compile(lone, {.batch = 1}); }),
              HasSubstr("'bn': batch normalisation needs more than one value"));
}

TEST(Refuses, WhatDoesNotFitIntoMemory) {
  try {
    make_reference_backend()->compile(build_model("resnet50"), {.batch = 1 << 20});
    FAIL() << "compiled";
  } catch (const OutOfMemory& error) {
    EXPECT_GT(error.bytes_wanted, error.bytes_free);
    EXPECT_GT(error.bytes_wanted, std::int64_t{1} << 40);
  }
}

}  // namespace
}  // namespace rackmark::worker
