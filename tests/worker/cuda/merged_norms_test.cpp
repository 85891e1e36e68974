// Which work of batch norms convolutions do: by what engines and kernels take, layer by layer.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "same_training.hpp"

namespace rackmark::worker::test {
namespace {

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

}  // namespace
}  // namespace rackmark::worker::test
