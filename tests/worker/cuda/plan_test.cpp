// The GPU backend's plans on the host device against the plain backend in double: every layer,
// every way in which nodes are merged, all precisions.
#include <gmock/gmock.h>

#include <numeric>

#include "plans.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::test {
namespace {

Node classify(Net& net, Node x) {
  return net.linear(net.flatten(net.adaptive_average_pool(x, {1})), "fc", {net.classes()});
}

Results trained(const Net& net, int batch, const std::string& precision, const std::string& fusion,
                int steps) {
  PlanOptions options{.batch = batch, .precision = precision, .fusion = fusion};
  options.loss_scale = 256;
  return train_and_evaluate(*cuda_plan(net, options), batch, steps);
}

void expect_close(const Results& got, const Results& exact, double tolerance) {
  ASSERT_EQ(got.size(), exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_LT(relative_distance(got[i].second, exact[i].second), tolerance) << exact[i].first;
  }
}

// A narrow precision may be three times as far from double as the plain backend with the same
// digits.
void expect_similar(const Net& net, int batch, const std::string& precision,
                    const std::string& fusion = "") {
  SCOPED_TRACE(precision + " " + fusion);
  const auto got = trained(net, batch, precision, fusion, 1);
  const auto plain = train_and_evaluate(*plain_plan(net, batch, precision), batch, 1);
  const auto exact = train_and_evaluate(*plain_plan(net, batch, "fp64"), batch, 1);
  // Convolutions take a batch norm's scale and shift in 16 bits: now and then a value crosses zero,
  // and ReLU sends one gradient more, or less, back through these small nets.
  const bool rounds_scales = fusion.ends_with("+bn-in-conv");
  const double floor = rounds_scales ? 0.03 : precision == "bf16" ? 0.02 : 0.004;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const auto& [name, wanted] = exact[i];
    const double allowed = std::min(0.5, floor + 3 * relative_distance(plain[i].second, wanted));
    EXPECT_LT(relative_distance(got[i].second, wanted), allowed) << name;
  }
}

void expect_same_training(const Net& net, int batch, double tolerance = 2e-4) {
  constexpr int kSteps = 3;
  const auto exact = train_and_evaluate(*plain_plan(net, batch, "fp64"), batch, kSteps);
  for (const std::string fusion : {"", "none"}) {
    SCOPED_TRACE("batch " + std::to_string(batch) + " fusion '" + fusion + "'");
    expect_close(trained(net, batch, "fp32", fusion, kSteps), exact, tolerance);
  }
  expect_similar(net, batch, "bf16");
  expect_similar(net, batch, "fp16");
  expect_similar(net, batch, "fp16", "bn-relu-add+pool+conv-statistics");
  expect_similar(net, batch, "fp16", "bn-relu-add+pool+conv-statistics+bn-in-conv");
}

TEST(CudaPlan, Convolutions) {
  for (const Conv2d layer :
       {Conv2d{.out = 16, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1},
        Conv2d{.out = 5, .kernel_h = 1, .kernel_w = 1, .bias = true},
        Conv2d{.out = 20, .kernel_h = 7, .kernel_w = 1, .stride = 2, .pad_h = 3, .bias = true}}) {
    SCOPED_TRACE(layer.out);
    expect_same_training(make_net(13, 7,
                                  [&](Net& net) {
                                    Node x = net.conv2d(net.input(), "a", layer);
                                    x = net.conv2d(net.relu(x), "b", layer);
                                    net.loss(classify(net, x));
                                  }),
                         3);
  }
}

// A flattened picture keeps its own order in memory, through what lies between it and the layer.
TEST(CudaPlan, LinearLayersAfterPictures) {
  expect_same_training(make_net(9, 4,
                                [](Net& net) {
                                  Node x = net.conv2d(net.input(), "a", {.out = 10, .bias = true});
                                  x = net.relu(net.flatten(net.max_pool(x, {3, 2})));
                                  x = net.dropout(net.relu(net.linear(x, "b", {12})), 0);
                                  net.loss(net.linear(x, "c", {4}));
                                }),
                       2);
}

TEST(CudaPlan, PoolsAndResponseNorm) {
  const auto with = [](auto layer) {
    return make_net(11, 5, [&](Net& net) {
      Node x =
          net.conv2d(net.input(), "a", {.out = 12, .kernel_h = 3, .kernel_w = 3, .bias = true});
      x = layer(net, x);
      net.loss(net.linear(net.flatten(x), "fc", {5}));
    });
  };
  expect_same_training(with([](Net& n, Node x) { return n.max_pool(x, {3, 2, 1}); }), 2);
  expect_same_training(with([](Net& n, Node x) { return n.max_pool(x, {2, 2, 0, true}); }), 2);
  expect_same_training(with([](Net& n, Node x) { return n.average_pool(x, {3, 2, 1}); }), 2);
  expect_same_training(with([](Net& n, Node x) { return n.adaptive_average_pool(x, {4}); }), 2);
  expect_same_training(
      with([](Net& n, Node x) { return n.local_response_norm(x, {.size = 5, .alpha = 0.1}); }), 2);
}

// Every form of relu?(norm(x) + residual?), and what else may read its parts.
TEST(CudaPlan, NormsAndResiduals) {
  const Conv2d three{.out = 16, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
  const auto norm = [&](Net& n, Node x, const std::string& name) {
    return n.batch_norm(n.conv2d(x, "conv" + name, three), "bn" + name);
  };
  const auto net = [&](auto body) {
    return make_net(8, 6, [&](Net& n) {
      const Node x = n.relu(norm(n, n.input(), "0"));
      n.loss(classify(n, body(n, x)));
    });
  };
  const Net plain = net([&](Net& n, Node x) { return n.relu(norm(n, x, "1")); });
  const Net no_relu = net([&](Net& n, Node x) { return norm(n, x, "1"); });
  const Net residual =
      net([&](Net& n, Node x) { return n.relu(n.add(norm(n, n.relu(norm(n, x, "1")), "2"), x)); });
  const Net residual_without_relu = net([&](Net& n, Node x) { return n.add(norm(n, x, "1"), x); });
  const Net projection =
      net([&](Net& n, Node x) { return n.relu(n.add(norm(n, x, "1"), norm(n, x, "2"))); });
  const Net projection_without_relu =
      net([&](Net& n, Node x) { return n.add(norm(n, x, "1"), norm(n, x, "2")); });
  const Net shared_convolution = net([&](Net& n, Node x) {
    const Node c = n.conv2d(x, "shared", three);
    return n.add(n.relu(n.batch_norm(c, "bn1")), n.batch_norm(c, "bn2"));
  });
  const Net chain = net([&](Net& n, Node x) {
    for (int i = 1; i < 5; ++i) x = n.relu(n.add(norm(n, x, std::to_string(i)), x));
    return x;
  });
  for (const Net* each : {&plain, &no_relu, &residual, &residual_without_relu, &projection,
                          &projection_without_relu, &shared_convolution, &chain}) {
    SCOPED_TRACE(each->nodes().size());
    expect_same_training(*each, 4);
  }
}

// Parts made in place (norms, pools, ReLUs), parts that are copied (a convolution, one with other
// readers), a concat inside a concat, and one whose value is flattened.
Net joined_net(int b_channels, int mixed_channels) {
  return make_net(10, 4, [=](Net& n) {
    const Conv2d one{.out = 8};
    Node x = n.relu(n.batch_norm(n.conv2d(n.input(), "stem", {.out = 16}), "bn0"));
    const Node a = n.relu(n.batch_norm(n.conv2d(x, "a", one), "bn_a"));
    const Node b = n.relu(n.conv2d(x, "b", {.out = b_channels, .bias = true}));
    const Node c = n.conv2d(x, "c", one);
    const Node d = n.max_pool(x, {3, 1, 1});
    const Node inner = n.concat({n.relu(c), d});
    Node y = n.concat({a, b, inner, a});
    y = n.average_pool(y, {3, 2, 1});
    y = n.relu(n.conv2d(y, "mix", {.out = mixed_channels, .bias = true}));
    n.loss(n.linear(n.flatten(n.concat({n.max_pool(y, {2, 2}), n.average_pool(y, {2, 2})})), "fc",
                    {4}));
  });
}

// A part that another convolution reads as well: both give it a gradient.
Net shared_part_net(int odd_channels) {
  return make_net(8, 4, [=](Net& n) {
    const Node odd = n.relu(n.conv2d(n.input(), "odd", {.out = odd_channels, .bias = true}));
    const Node part = n.relu(n.batch_norm(n.conv2d(n.input(), "part", {.out = 8}), "bn"));
    const Node beside = n.relu(n.conv2d(part, "beside", {.out = 8, .bias = true}));
    n.loss(n.linear(n.flatten(n.concat({odd, part, beside})), "fc", {4}));
  });
}

TEST(CudaPlan, Concats) {
  expect_same_training(joined_net(8, 8), 3);
  expect_same_training(joined_net(5, 6), 3);
  for (const int channels : {8, 5}) expect_same_training(shared_part_net(channels), 3);
}

// Libraries load 16 bytes at a time.
TEST(CudaPlan, PartsOfConcatsBeginWhereLibrariesCanLoad) {
  const auto copies = [](const Net& net, const char* precision) {
    const auto plan = cuda_plan(net, {.batch = 3, .precision = precision});
    const Data data = make_data(net, 3);
    const auto rows = plan->profile(data.batch());
    return std::count_if(rows.begin(), rows.end(), [](const OpTime& row) {
      return row.pass == "forward" && row.implementation == "copy";
    });
  };
  const auto always = copies(joined_net(8, 8), "fp32");  // layers, and what others read too
  EXPECT_EQ(copies(joined_net(8, 8), "fp16"), always);
  EXPECT_EQ(copies(joined_net(8, 4), "fp32"), always);
  EXPECT_EQ(copies(joined_net(8, 4), "fp16"), always + 1);
  EXPECT_EQ(copies(joined_net(4, 8), "fp32"), always);
  EXPECT_EQ(copies(joined_net(4, 8), "fp16"), always + 1);  // what comes after b
}

// Three layers of which the second and the third read a batch norm that nobody else reads.
Net chain_net() {
  return make_net(8, 4, [](Net& n) {
    Node x = n.relu(n.batch_norm(n.conv2d(n.input(), "a", {.out = 8}), "bn_a"));
    const Conv2d window{.out = 16, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
    x = n.relu(n.batch_norm(n.conv2d(x, "b", window), "bn_b"));
    x = n.relu(n.batch_norm(n.conv2d(x, "c", {.out = 24, .stride = 2}), "bn_c"));
    n.loss(n.linear(n.flatten(x), "fc", {4}));
  });
}

using EngineMs = std::function<std::optional<double>(const cuda::ConvolutionTask&)>;
using EngineRefusal = std::function<bool(const cuda::ConvolutionTask&)>;
constexpr double kCheap = 1e-3, kDear = 1e3;  // beside a kernel's 1 ms

// What a plan with such engines does, and what it has learned after two steps.
struct MergedTraining {
  std::map<std::string, std::string> notes;
  std::multimap<std::string, std::string> kernels;  // of norms: implementation, node
  std::vector<double> weights;
  // The nodes of one kernel.
  std::vector<std::string> nodes(const std::string& implementation) const {
    std::vector<std::string> found;
    const auto [first, last] = kernels.equal_range(implementation);
    for (auto row = first; row != last; ++row) found.push_back(row->second);
    std::sort(found.begin(), found.end());
    return found;
  }
};
MergedTraining train_merged(const std::string& fusion, const EngineMs& engine_ms,
                            const EngineRefusal& refuses = {}) {
  const Net net = chain_net();
  const Data data = make_data(net, 3);
  const auto plan = host_cuda_backend({.convolution_ms = engine_ms, .refuses = refuses})
                        ->compile(net, {.batch = 3, .precision = "fp16", .fusion = fusion});
  MergedTraining training{.notes = plan->facts().notes};
  for (const OpTime& row : plan->profile(data.batch())) {
    training.kernels.emplace(row.implementation, row.node);
  }
  fill(*plan);
  for (int step = 0; step < 2; ++step) plan->step(data.batch(), kStep);
  training.weights = plan->read_parameter(0);
  return training;
}
using Names = std::vector<std::string>;

// Layer by layer, by what their engines take; training is the same either way.
TEST(CudaPlan, ConvolutionsMakeSumsWhereThatIsFaster) {
  const std::string level = "bn-relu-add+conv-statistics";
  const auto always = train_merged(level, {});
  EXPECT_EQ(always.notes.at("conv-statistics"),
            "forward by 3 of 3 convolutions, backward by 2 of 2, where that is faster");
  EXPECT_EQ(always.nodes("norm_sums"), Names());
  EXPECT_EQ(always.nodes("norm_backward_sums"), Names({"bn_c"}));
  EXPECT_EQ(always.nodes("norm_apply"), Names({"bn_a", "bn_b", "bn_c"}));

  const auto some = train_merged(level, [](const cuda::ConvolutionTask& task) {
    const bool dear = (task.statistics && task.out == 16) || (task.norm_sums && task.out == 24);
    return dear ? kDear : kCheap;
  });
  EXPECT_EQ(some.notes.at("conv-statistics"),
            "forward by 2 of 3 convolutions, backward by 1 of 2, where that is faster");
  EXPECT_EQ(some.nodes("norm_sums"), Names({"bn_b"}));
  EXPECT_EQ(some.nodes("norm_backward_sums"), Names({"bn_b", "bn_c"}));

  const auto never = train_merged(level, [](const cuda::ConvolutionTask& task) {
    return task.statistics || task.norm_sums ? kDear : kCheap;
  });
  EXPECT_EQ(never.notes.at("conv-statistics"),
            "forward by 0 of 3 convolutions, backward by 0 of 2, where that is faster");
  EXPECT_EQ(never.nodes("norm_sums"), Names({"bn_a", "bn_b", "bn_c"}));
  EXPECT_EQ(never.nodes("norm_backward_sums"), Names({"bn_a", "bn_b", "bn_c"}));
  for (const auto* other : {&some, &never}) {
    EXPECT_LT(relative_distance(other->weights, always.weights), 0.01);
  }
}

TEST(CudaPlan, ConvolutionsWithNormsAreThoseOfThePlainBackend) {
  expect_same_training(chain_net(), 3);
}

// What norms also makes both sums: those of its output since no engine does without, those of the
// way back since there is no mask.
TEST(CudaPlan, ConvolutionsNormWhatTheyReadWhereThatIsFaster) {
  const std::string level = "bn-relu-add+pool+conv-statistics+bn-in-conv";
  const auto always = train_merged(level, {});
  EXPECT_EQ(always.notes.at("bn-in-conv"), "2 of 2 batch norms, where that is faster");
  EXPECT_EQ(always.nodes("norm_apply"), Names({"bn_c"}));
  EXPECT_EQ(always.nodes("norm_backward_sums"), Names({"bn_c"}));

  // Dear sums, and yet norming saves more; not where weights are dear as well.
  const auto once = train_merged(level, [](const cuda::ConvolutionTask& task) {
    if (task.normed && task.out == 24) return kDear;
    if (task.norm_sums) return 1.5;
    return !task.normed && (task.statistics || task.out == 16) ? kDear : kCheap;
  });
  EXPECT_EQ(once.notes.at("bn-in-conv"), "1 of 2 batch norms, where that is faster");
  EXPECT_EQ(once.notes.at("conv-statistics"),
            "forward by 1 of 3 convolutions, backward by 1 of 2, where that is faster");
  EXPECT_EQ(once.nodes("norm_apply"), Names({"bn_b", "bn_c"}));
  EXPECT_EQ(once.nodes("norm_backward_sums"), Names({"bn_b", "bn_c"}));

  const auto sums_alone = train_merged("bn-relu-add+conv-statistics", {});
  const auto neither = train_merged(level, [](const cuda::ConvolutionTask& task) {
    return task.normed || task.statistics || task.norm_sums ? kDear : kCheap;
  });
  EXPECT_EQ(neither.notes.at("bn-in-conv"), "0 of 2 batch norms, where that is faster");
  for (const auto* other : {&once, &sums_alone, &neither}) {
    EXPECT_LT(relative_distance(other->weights, always.weights), 0.01);
  }
}

// What could not be timed may not even run; where nothing could, it is done as it was asked for.
TEST(CudaPlan, MergedEnginesThatWereNotTimedAreTakenOnlyBesideOthersThatWereNot) {
  const std::string level = "bn-relu-add+pool+conv-statistics+bn-in-conv";
  const auto merged_untimed =
      train_merged(level, [](const cuda::ConvolutionTask& task) -> std::optional<double> {
        if (task.is_merged()) return std::nullopt;
        return kDear;
      });
  EXPECT_EQ(merged_untimed.notes.at("bn-in-conv"), "0 of 2 batch norms, where that is faster");
  EXPECT_EQ(merged_untimed.notes.at("conv-statistics"),
            "forward by 0 of 3 convolutions, backward by 0 of 2, where that is faster");
  const auto weights_untimed =
      train_merged(level, [](const cuda::ConvolutionTask& task) -> std::optional<double> {
        const bool weights = task.pass == cuda::ConvolutionPass::kBackwardWeights;
        if (task.normed && weights) return std::nullopt;
        return kCheap;
      });
  EXPECT_EQ(weights_untimed.nodes("norm_apply"), Names({"bn_a", "bn_b", "bn_c"}));
  EXPECT_EQ(weights_untimed.nodes("norm_backward_sums"), Names({"bn_c"}));
}

// A device of another generation has none of these engines, or some.
TEST(CudaPlan, ConvolutionsWithoutMergedEnginesRunAlone) {
  const std::string level = "bn-relu-add+pool+conv-statistics+bn-in-conv";
  const auto none = train_merged(level, {}, [](const cuda::ConvolutionTask& task) {
    return task.statistics || task.normed || task.norm_sums;
  });
  EXPECT_EQ(none.notes.at("bn-in-conv"), "0 of 2 batch norms, where that is faster");
  EXPECT_EQ(none.nodes("norm_sums"), Names({"bn_a", "bn_b", "bn_c"}));
  EXPECT_EQ(none.nodes("norm_apply"), Names({"bn_a", "bn_b", "bn_c"}));
  EXPECT_EQ(none.nodes("norm_backward_sums"), Names({"bn_a", "bn_b", "bn_c"}));
  const auto no_weights = train_merged(level, {}, [](const cuda::ConvolutionTask& task) {
    return task.normed && task.pass == cuda::ConvolutionPass::kBackwardWeights;
  });
  EXPECT_EQ(no_weights.nodes("norm_apply"), Names({"bn_a", "bn_b", "bn_c"}));
  EXPECT_EQ(no_weights.nodes("norm_backward_sums"), Names({"bn_c"}));
  EXPECT_LT(relative_distance(no_weights.weights, none.weights), 0.01);
}

// A max pool that alone reads a batch norm's ReLU is part of it: the first one here, and the one
// that is made inside a concat; not the one whose picture others read as well.
// Its input may be the pictures, which want no gradient, or have a reader that gives it one first.
TEST(CudaPlan, BatchNormsPoolWhateverTheyRead) {
  expect_same_training(
      make_net(8, 4,
               [](Net& n) {
                 Node x = n.relu(n.batch_norm(n.input(), "first"));
                 x = n.conv2d(n.max_pool(x, {2, 2, 0}), "a", {.out = 8});
                 const Node pooled = n.max_pool(n.relu(n.batch_norm(x, "bn")), {3, 1, 1});
                 const Node beside = n.relu(n.conv2d(x, "b", {.out = 8}));
                 n.loss(n.linear(n.flatten(n.concat({pooled, beside})), "fc", {4}));
               }),
      3);
}

TEST(CudaPlan, BatchNormsPool) {
  const auto net = make_net(12, 4, [](Net& n) {
    const auto norm = [&](Node x, const std::string& name, int out) {
      return n.relu(n.batch_norm(n.conv2d(x, name, {.out = out}), name + ".bn"));
    };
    Node x = n.max_pool(norm(n.input(), "stem", 8), {3, 2, 1});
    const Node shared = norm(x, "shared", 16);
    const Node a = n.max_pool(norm(x, "a", 8), {2, 2, 0});
    x = n.concat({a, n.max_pool(shared, {2, 2, 0}), n.average_pool(shared, {2, 2, 0})});
    n.loss(n.linear(n.flatten(x), "fc", {4}));
  });
  expect_same_training(net, 3);
  const auto rows_of = [&](const std::string& fusion, const std::string& implementation) {
    const auto plan = cuda_plan(net, {.batch = 3, .fusion = fusion});
    std::vector<std::string> nodes;
    for (const OpTime& row : plan->profile(make_data(net, 3).batch())) {
      if (row.implementation == implementation) nodes.push_back(row.node);
    }
    return nodes;
  };
  EXPECT_EQ(rows_of("", "norm_max_pool"), (std::vector<std::string>{"stem.bn", "a.bn"}));
  EXPECT_EQ(rows_of("", "max_pool").size(), 1U);
  EXPECT_EQ(rows_of("bn-relu-add", "max_pool").size(), 3U);
  EXPECT_EQ(rows_of("none", "max_pool").size(), 3U);
}

TEST(CudaPlan, AuxiliaryHeadsAndSigmoid) {
  expect_same_training(make_net(8, 5,
                                [](Net& n) {
                                  Node x =
                                      n.relu(n.conv2d(n.input(), "a", {.out = 9, .bias = true}));
                                  const Node side = classify(n, n.conv2d(x, "b", {.out = 8}));
                                  x = n.relu(n.conv2d(x, "c", {.out = 8, .bias = true}));
                                  n.loss(n.linear(n.flatten(x), "fc1", {5}));
                                  n.loss(side, 0.3);
                                }),
                       2);
  expect_same_training(make_net(
                           8, 2,
                           [](Net& n) {
                             Node x = n.relu(n.conv2d(n.input(), "a", {.out = 9, .bias = true}));
                             n.loss(n.linear(n.flatten(x), "fc", {1}));
                           },
                           LossKind::kSigmoidCrossEntropy),
                       3);
}

Net small_net() {
  return make_net(12, 10, [](Net& n) {
    Node x = n.relu(
        n.batch_norm(n.conv2d(n.input(), "a", {.out = 16, .kernel_h = 3, .kernel_w = 3}), "bn"));
    x = n.dropout(n.flatten(n.adaptive_average_pool(x, {2})), 0.5);
    n.loss(n.linear(x, "fc", {10}));
  });
}

PlanOptions small_options(const std::string& precision = "fp32") {
  return {.batch = 4, .precision = precision, .masks = {.seed = 3}};
}

std::vector<std::vector<double>> everything(const TrainPlan& plan) {
  std::vector<std::vector<double>> values;
  for (std::size_t p = 0; p < plan.net().parameters().size(); ++p)
    values.push_back(plan.read_parameter(static_cast<int>(p)));
  for (std::size_t s = 0; s < plan.net().running_statistics().size(); ++s)
    values.push_back(plan.read_running(static_cast<int>(s)));
  return values;
}

// A step of the plan itself, the three calls, and an exchange that works on copies on the host.
TEST(CudaPlan, EveryWayToMakeAStepGivesTheSameBits) {
  for (const std::string precision : {"fp32", "fp16"}) {
    const Net net = small_net();
    const auto alone = cuda_plan(net, small_options(precision));
    const auto calls = cuda_plan(net, small_options(precision));
    const auto staged = cuda_plan(net, small_options(precision));
    const auto served = cuda_plan(net, small_options(precision));
    const auto gradients = staged->gradient_block();
    const auto pushed = served->gradient_block(), pulled = served->parameter_block();
    std::vector<float> velocity(pulled.size());
    for (int step = 0; step < 3; ++step) {
      const Data data = make_data(net, 4, step);
      const double loss = alone->step(data.batch(), kStep).loss;
      EXPECT_EQ(calls->forward(data.batch()), loss);
      calls->backward();
      calls->update(kStep);
      staged->forward(data.batch());
      std::vector<int> ready;
      staged->backward([&](int parameter) { ready.push_back(parameter); });
      EXPECT_EQ(ready.size(), net.parameters().size());
      std::vector<float> copy(gradients.begin(), gradients.end());
      std::fill(gradients.begin(), gradients.end(), 0.0F);  // as an exchange would: other values
      std::copy(copy.begin(), copy.end(), gradients.begin());
      staged->update(kStep);
      served->forward(data.batch());
      served->backward();
      for (std::size_t i = 0; i < pulled.size(); ++i) {
        velocity[i] = static_cast<float>(kStep.momentum) * velocity[i] +
                      (pushed[i] + static_cast<float>(kStep.weight_decay) * pulled[i]);
        pulled[i] -= static_cast<float>(kStep.learning_rate) * velocity[i];
      }
    }
    EXPECT_EQ(everything(*alone), everything(*calls));
    EXPECT_EQ(everything(*alone), everything(*staged));
    for (int p = 0; p < static_cast<int>(net.parameters().size()); ++p)
      EXPECT_EQ(alone->read_gradient(p), calls->read_gradient(p)) << net.parameters()[p].name;
    const auto a = everything(*alone), b = everything(*served);
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_LT(relative_distance(b[i], a[i]), 1e-5);
    if (precision == "fp16") {
      EXPECT_THROW(alone->update(kStep), std::logic_error);
    }
    const Data data = make_data(net, 4, 7);
    served->evaluate(data.batch());  // reads what was pulled last
    alone->evaluate(data.batch());
    EXPECT_LT(relative_distance(served->logits(), alone->logits()), 1e-4);
  }
}

TEST(CudaPlan, GradientsLieInTheOrderInWhichTheyAreReady) {
  const Net net = small_net();
  const auto plan = cuda_plan(net, small_options());
  const auto block = plan->gradient_block();
  plan->forward(make_data(net, 4).batch());
  std::int64_t end = 0;
  plan->backward([&](int parameter) {
    EXPECT_EQ(plan->extent(parameter).offset, end);
    end += plan->extent(parameter).count;
    const auto first = block.begin() + plan->extent(parameter).offset;
    EXPECT_NE(std::accumulate(first, first + plan->extent(parameter).count, 0.0), 0);
  });
  EXPECT_EQ(end, std::ssize(block));
}

// The net's three input channels are padded to a group; the weights that read the padding are zero
// and stay so.
TEST(CudaPlan, PaddingOfWeightsStaysZero) {
  const Net net = small_net();
  const auto plan = cuda_plan(net, small_options("bf16"));
  const auto parameters = plan->parameter_block();
  for (int step = 0; step < 2; ++step) {
    const Data data = make_data(net, 4, step);
    plan->forward(data.batch());
    plan->backward();
    plan->update(kStep);
  }
  const std::int64_t first = plan->extent(0).offset;  // a.weight: 16 x 3 x 3 x 8 in memory
  ASSERT_EQ(plan->extent(0).count, 16 * 9 * 8);
  int zeros = 0;
  for (std::int64_t i = 0; i < 16 * 9 * 8; ++i) {
    if (i % 8 >= 3) zeros += parameters[first + i] == 0 ? 1 : 0;
  }
  EXPECT_EQ(zeros, 16 * 9 * 5);
}

TEST(CudaPlan, AnOverflowChangesNothingAndHalvesTheScale) {
  const Net net = small_net();
  const auto plan = cuda_plan(net, small_options("fp16"));
  Data data = make_data(net, 4);
  const auto before = everything(*plan);
  std::vector<float> huge(plan->read_parameter(0).size(), 3e4F);
  plan->write_parameter(0, huge);
  const auto with_huge = plan->read_parameter(0);
  plan->step(data.batch(), kStep);
  EXPECT_EQ(plan->read_parameter(0), with_huge);
  EXPECT_EQ(plan->skipped_steps(), 1);
  fill(*plan);
  for (std::size_t s = 0; s < net.running_statistics().size(); ++s) {
    const bool variance = net.running_statistics()[s].name.ends_with("var");
    plan->write_running(static_cast<int>(s), std::vector<float>(16, variance ? 1.0F : 0.0F));
  }
  plan->step(data.batch(), kStep);  // the next step is taken
  EXPECT_NE(everything(*plan), before);
  EXPECT_EQ(plan->skipped_steps(), 1);
  PlanOptions fixed = small_options("fp16");
  fixed.loss_scale = 1e30;
  const auto always = cuda_plan(net, fixed);
  for (int i = 0; i < 2; ++i) always->step(data.batch(), kStep);
  EXPECT_EQ(always->skipped_steps(), 2);
  EXPECT_EQ(cuda_plan(net, small_options("bf16"))->skipped_steps(), std::nullopt);
}

TEST(CudaPlan, PicturesWithAKnownIdentityAreSentOnce) {
  const Net net = small_net();
  PlanOptions options = small_options();
  options.dropout = false;
  const auto plan = cuda_plan(net, options);
  const Data first = make_data(net, 4, 1), second = make_data(net, 4, 2);
  const double a = plan->forward({first.images, first.labels, 5});
  EXPECT_EQ(plan->forward({second.images, second.labels, 5}),
            plan->forward({first.images, first.labels, 5}));
  EXPECT_NE(plan->forward({second.images, second.labels, 6}), a);
}

constexpr int kRawSide = 17;

PlanOptions raw_options(const std::string& precision = "fp32") {
  PlanOptions options = small_options(precision);
  options.raw_side = kRawSide;
  return options;
}

TEST(CudaPlan, TrainsOnBytesAsOnFloatsMadeOfThem) {
  EXPECT_TRUE(host_cuda_backend()->takes_raw_pictures());
  for (const std::string precision : {"fp32", "fp16"}) {
    SCOPED_TRACE(precision);
    const Net net = small_net();
    const auto floats = cuda_plan(net, small_options(precision));
    const auto bytes = cuda_plan(net, raw_options(precision));
    for (int step = 0; step < 3; ++step) {
      const RawData raw = make_raw_data(net, 4, kRawSide, step);
      const Data data = normalised(net, raw);
      EXPECT_EQ(bytes->step(raw.batch(), kStep).loss, floats->step(data.batch(), kStep).loss);
    }
    EXPECT_EQ(everything(*bytes), everything(*floats));
    const RawData raw = make_raw_data(net, 4, kRawSide, 7);
    floats->evaluate(normalised(net, raw).batch());
    bytes->evaluate(raw.batch());
    EXPECT_EQ(bytes->logits(), floats->logits());
    const auto profile = bytes->profile(raw.batch());
    EXPECT_EQ(profile.front().implementation, "load_raw_pictures");
    EXPECT_EQ(bytes->forward(raw.batch()), floats->forward(normalised(net, raw).batch()));
  }
}

TEST(CudaPlan, BytesTakeLessOfTheDevice) {
  const Net net = small_net();
  const auto backend = host_cuda_backend();
  const std::int64_t floats = 4 * 4 * 3 * 12 * 12, bytes = 4 * 3 * kRawSide * kRawSide;
  EXPECT_EQ(
      *backend->predict_bytes(net, small_options()) - *backend->predict_bytes(net, raw_options()),
      floats - (bytes + 255) / 256 * 256 - 256);  // the last: windows
}

void expect_refused(const std::function<void()>& action, const std::string& why) {
  try {
    action();
    ADD_FAILURE() << "not refused: " << why;
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(why));
  }
}

TEST(CudaPlan, RefusesTheWrongSortOfPictures) {
  const Net net = small_net();
  const auto floats = cuda_plan(net, small_options()), bytes = cuda_plan(net, raw_options());
  const Data data = make_data(net, 4);
  const RawData raw = make_raw_data(net, 4, kRawSide, 1);
  expect_refused(
      [&] { bytes->step(data.batch(), kStep); },
      "compiled for pictures as bytes of 17 pixels (raw_side), not for images of floats");
  expect_refused([&] { floats->evaluate(raw.batch()); },
                 "compiled for images of floats, not for pictures as bytes of 17 pixels");
  expect_refused([&] { bytes->forward(make_raw_data(net, 4, 16, 1).batch()); },
                 "not for pictures as bytes of 16 pixels");
  RawData wrong = raw;
  wrong.windows.pop_back();
  expect_refused([&] { bytes->forward(wrong.batch()); }, "needs 4 windows, not 3");
  wrong = raw;
  wrong.pixels.pop_back();
  expect_refused([&] { bytes->forward(wrong.batch()); }, "have 3468 bytes, not 3467");
  for (const PictureWindow window : {PictureWindow{-1, 0, 0}, {0, 6, 0}, {6, 0, 1}, {0, -1, 1}}) {
    wrong = raw;
    wrong.windows[2] = window;
    expect_refused([&] { bytes->profile(wrong.batch()); }, "leaves picture 2 of 17 pixels");
  }
  for (const int side : {-1, 11, 40000}) {
    PlanOptions options = raw_options();
    options.raw_side = side;
    expect_refused([&] { cuda_plan(net, options); },
                   "raw_side " + std::to_string(side) + " must be 0 or from the net's 12 pixels");
  }
  bytes->step(raw.batch(), kStep);  // what was refused has left nothing behind
}

TEST(CudaPlan, ProfileTimesEveryPassAndChangesNothing) {
  const Net net = small_net();
  const auto plan = cuda_plan(net, small_options("fp16"));
  const Data data = make_data(net, 4);
  plan->step(data.batch(), kStep);
  const auto before = everything(*plan);
  std::vector<std::string> passes;
  for (const OpTime& time : plan->profile(data.batch())) {
    EXPECT_GE(time.ms, 0) << time.node;
    EXPECT_FALSE(time.implementation.empty()) << time.node;
    passes.push_back(time.pass);
  }
  for (const char* pass : {"load", "forward", "backward_data", "backward_weights", "update"})
    EXPECT_THAT(passes, testing::Contains(pass));
  EXPECT_EQ(everything(*plan), before);
}

TEST(CudaPlan, FaultsAreSeenInTheirGradients) {
  const Net net = make_net(8, 3, [](Net& n) {
    const Conv2d one{.out = 8};
    const Node x = n.relu(n.batch_norm(n.conv2d(n.input(), "a", one), "bn_a"));
    n.loss(classify(n, n.relu(n.add(n.batch_norm(n.conv2d(x, "b", one), "bn_b"), x))));
  });
  const Data data = make_data(net, 2);
  const auto gradient = [&](const Faults& faults) {
    PlanOptions options{.batch = 2};
    options.faults = faults;
    const auto plan = cuda_plan(net, options);
    plan->forward(data.batch());
    plan->backward();
    return plan->read_gradient(0);
  };
  const auto right = gradient({});
  auto negated = gradient({.negate_gradient = net.parameters()[0].name});
  EXPECT_GT(relative_distance(gradient({.negate_residual_gradient = true}), right), 0.1);
  for (double& value : negated) value = -value;
  EXPECT_EQ(negated, right);
}

TEST(CudaPlan, RefusesWhatDoesNotFit) {
  const Net net = small_net();
  const auto wanted = host_cuda_backend()->predict_bytes(net, small_options());
  ASSERT_TRUE(wanted);
  try {
    host_cuda_backend({.memory_bytes = *wanted - 1})->compile(net, small_options());
    FAIL() << "was not refused";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.bytes_wanted, *wanted);
    EXPECT_EQ(error.bytes_free, *wanted - 1);
  }
  EXPECT_LE(host_cuda_backend({.memory_bytes = *wanted})
                ->compile(net, small_options())
                ->facts()
                .arena_bytes,
            *wanted);
}

TEST(CudaPlan, MemoryIsTheDevices) {
  const auto small = host_cuda_backend({.memory_bytes = 16 << 20});
  const auto limit = small->device_memory();
  ASSERT_TRUE(limit);
  EXPECT_EQ(limit->free_bytes, 14 << 20);
  EXPECT_EQ(limit->set_by, "GPU memory, 2 MiB kept for kernels and graphs");
  EXPECT_EQ(host_cuda_backend()->device_memory()->free_bytes, (std::int64_t{4} << 30) * 7 / 8);
  EXPECT_EQ(small->matrix_peak("fp32", 1, 0.1), std::nullopt);  // no product has room
  EXPECT_THROW(small->ceilings(1), OutOfMemory);
}

// As an operation that fails is looked for on a device.
TEST(CudaPlan, StepByStepTrainsTheSameAndNamesWhatFails) {
  const auto losses = [] {
    const auto plan = cuda_plan(small_net(), small_options());
    const Data data = make_data(small_net(), small_options().batch);
    const double first = plan->step(data.batch(), kStep).loss;
    return std::pair(first, plan->step(data.batch(), kStep).loss);
  };
  const auto device = cuda::test::make_host_device();
  cuda::Pass pass{.device = *device,
                  .kernels = device->kernels(cuda::Type::kFloat),
                  .floats = device->kernels(cuda::Type::kFloat),
                  .queue = device->queue()};
  const auto error = [&] {
    try {
      pass.run("conv1", "forward", "engine 7", 0, 0, [] { throw std::runtime_error("700"); });
    } catch (const std::runtime_error& failure) {
      return std::string(failure.what());
    }
    return std::string();
  };
  const auto recorded = losses();
  EXPECT_EQ(error(), "700");
  setenv("RACKMARK_CUDA_STEP_BY_STEP", "1", 1);
  const auto alone = losses();
  EXPECT_EQ(error(), "conv1 forward, engine 7: 700");
  unsetenv("RACKMARK_CUDA_STEP_BY_STEP");
  EXPECT_EQ(alone, recorded);
}

TEST(CudaPlan, RefusesWrongUse) {
  const Net net = small_net();
  const auto plan = cuda_plan(net, small_options());
  const Data data = make_data(net, 3);
  EXPECT_THROW(plan->forward(data.batch()), std::invalid_argument);
  EXPECT_THROW(plan->backward(), std::logic_error);
  EXPECT_THROW(plan->write_parameter(0, std::vector<float>(5)), std::invalid_argument);
  EXPECT_THROW(cuda_plan(net, {.batch = 0}), std::invalid_argument);
  EXPECT_THROW(cuda_plan(net, {.batch = 1, .precision = "fp8"}), std::invalid_argument);
  EXPECT_THROW(cuda_plan(net, {.batch = 1, .fusion = "all"}), std::invalid_argument);
  EXPECT_THROW(cuda_plan(net, {.batch = 1, .fusion = "bn-relu-add+conv-statistics"}),
               std::invalid_argument);
}

}  // namespace
}  // namespace rackmark::worker::test
