// What a plan promises beside right numbers: flat blocks, order, repeatability, errors.
#include <algorithm>
#include <set>
#include <stdexcept>

#include "tests/worker/onednn/compare.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/winograd.hpp"

namespace rackmark::worker::test {
namespace {

Net small_net(int channels = 20) {
  return make_net(12, 5, [=](Net& n) {
    Node x = n.relu(n.batch_norm(
        n.conv2d(n.input(), "conv", {.out = channels, .kernel_h = 3, .kernel_w = 3}), "bn"));
    const Node y = n.batch_norm(
        n.conv2d(x, "conv2",
                 {.out = channels, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}),
        "bn2");
    x = n.max_pool(n.relu(n.add(y, x)), {2, 2, 0});
    n.loss(n.linear(n.flatten(x), "fc", {5}));
  });
}

void train(TrainPlan& plan, int steps) {
  for (int step = 0; step < steps; ++step) {
    const Data data = make_data(plan.net(), 4, step);
    plan.forward(data.batch());
    plan.backward();
    plan.update(kStep);
  }
}

TEST(OnednnPlan, GradientsLieInTheOrderInWhichTheyAreReady) {
  const Net net = small_net();
  const auto plan = onednn_plan(net, 4);
  const Data data = make_data(net, 4);
  plan->forward(data.batch());
  std::vector<int> order;
  std::vector<std::vector<float>> at_ready(net.parameters().size());
  plan->backward([&](int p) {
    order.push_back(p);
    const auto extent = plan->extent(p);
    const auto part = plan->gradient_block().subspan(extent.offset, extent.count);
    at_ready[p].assign(part.begin(), part.end());
  });
  EXPECT_EQ(std::set<int>(order.begin(), order.end()).size(), net.parameters().size());
  ASSERT_EQ(order.size(), net.parameters().size());
  std::int64_t next = 0;
  for (const int p : order) {
    const auto extent = plan->extent(p);
    EXPECT_EQ(extent.offset, next);
    EXPECT_GE(extent.count, net.parameters()[p].elements());
    const auto part = plan->gradient_block().subspan(extent.offset, extent.count);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), at_ready[p].begin())) << "changed after ready";
    next += extent.count;
  }
  EXPECT_EQ(static_cast<std::size_t>(next), plan->gradient_block().size());
  EXPECT_EQ(plan->parameter_block().size(), plan->gradient_block().size());
}

// Sums over ranks may include the padding, so it has to stay zero in all blocks.
TEST(OnednnPlan, PaddingStaysZero) {
  const Net net = small_net(20);
  const auto plan = onednn_plan(net, 4);
  train(*plan, 3);
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    const int p = static_cast<int>(i);
    const auto extent = plan->extent(p);
    const auto nonzero = [&](std::span<const float> block) {
      const auto part = block.subspan(extent.offset, extent.count);
      return part.size() - std::count(part.begin(), part.end(), 0.0F);
    };
    EXPECT_LE(nonzero(plan->gradient_block()), net.parameters()[i].elements());
    EXPECT_LE(nonzero(plan->parameter_block()), net.parameters()[i].elements());
  }
}

TEST(OnednnPlan, SameInputsGiveTheSameBits) {
  for (const int channels : {20, 32}) {  // 32: by Winograd where it exists
    const Net net = small_net(channels);
    for (const int threads : {1, 2}) {
      const auto a = onednn_plan(net, 4, "", threads), b = onednn_plan(net, 4, "", threads);
      train(*a, 3);
      train(*b, 3);
      EXPECT_TRUE(std::ranges::equal(a->parameter_block(), b->parameter_block()));
      EXPECT_TRUE(std::ranges::equal(a->gradient_block(), b->gradient_block()));
    }
  }
}

// The switch: whoever wants direct convolutions gets them, and the profile says which ran.
TEST(OnednnPlan, WinogradCanBeLeftOut) {
  const Net net = small_net(32);
  const Data data = make_data(net, 4);
  const auto count = [&](const std::string& fusion) {
    const auto plan = onednn_plan(net, 4, fusion);
    const auto times = plan->profile(data.batch());
    const auto found = std::ranges::count_if(times, [](const OpTime& op) {
      return op.implementation.find("wino") != std::string::npos;
    });
    EXPECT_EQ(plan->facts().fusion.find("winograd") != std::string::npos, found > 0);
    return found;
  };
  EXPECT_EQ(count("bn-relu-add"), 0);
  if (onednn::offers_winograd()) {
    EXPECT_EQ(count("bn-relu-add+winograd"), 3);
  }
}

// Values of 4 MiB and more are made again in backward: the same bits from less memory.
TEST(OnednnPlan, RecomputingSavesMemoryAndChangesNothing) {
  const Net net = make_net(64, 5, [](Net& n) {
    const Conv2d layer{.out = 64, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
    Node x = n.input();
    for (const char* name : {"a", "b", "c"})
      x = n.relu(n.batch_norm(n.conv2d(x, name, layer), std::string(name) + "_bn"));
    n.loss(n.linear(n.flatten(n.adaptive_average_pool(n.conv2d(x, "d", layer), {1})), "fc", {5}));
  });
  const auto again = onednn_plan(net, 4, "bn-relu-add+recompute");
  const auto kept = onednn_plan(net, 4, "bn-relu-add");
  EXPECT_LE(again->facts().arena_bytes + (4 << 20), kept->facts().arena_bytes);
  train(*again, 3);
  train(*kept, 3);
  EXPECT_TRUE(std::ranges::equal(again->parameter_block(), kept->parameter_block()));
  EXPECT_TRUE(std::ranges::equal(again->gradient_block(), kept->gradient_block()));
}

TEST(OnednnPlan, GradientsDoNotDependOnEarlierBatches) {
  const Net net = small_net();
  const auto fresh = onednn_plan(net, 4), used = onednn_plan(net, 4);
  const Data data = make_data(net, 4, 1), other = make_data(net, 4, 2);
  used->forward(other.batch());
  used->backward();
  for (auto* plan : {fresh.get(), used.get()}) {
    plan->forward(data.batch());
    plan->backward();
  }
  EXPECT_TRUE(std::ranges::equal(fresh->gradient_block(), used->gradient_block()));
}

TEST(OnednnPlan, TwoPlansSideBySide) {
  const Net net = small_net(), other_net = small_net(32);
  const auto alone = onednn_plan(net, 4);
  train(*alone, 2);
  const auto a = onednn_plan(net, 4), b = onednn_plan(other_net, 4, "", 1);
  for (int step = 0; step < 2; ++step) {
    const Data data = make_data(net, 4, step);
    a->forward(data.batch());
    b->forward(data.batch());
    a->backward();
    b->backward();
    b->update(kStep);
    a->update(kStep);
  }
  EXPECT_TRUE(std::ranges::equal(alone->parameter_block(), a->parameter_block()));
}

TEST(OnednnPlan, LayoutKeyNamesTheLayout) {
  EXPECT_EQ(onednn_plan(small_net(), 4)->layout_key(), onednn_plan(small_net(), 4)->layout_key());
  EXPECT_NE(onednn_plan(small_net(), 4)->layout_key(), onednn_plan(small_net(24), 4)->layout_key());
}

TEST(OnednnPlan, ParametersComeBackAsWritten) {
  const Net net = small_net();
  const auto plan = onednn_plan(net, 2);
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    const auto wanted = initial_value(net.parameters()[i], 7);
    plan->write_parameter(static_cast<int>(i), wanted);
    EXPECT_EQ(plan->read_parameter(static_cast<int>(i)),
              std::vector<double>(wanted.begin(), wanted.end()));
  }
  const std::vector<float> mean(20, 0.5F);
  plan->write_running(0, mean);
  EXPECT_EQ(plan->read_running(0), std::vector<double>(20, 0.5));
  EXPECT_THROW(plan->write_parameter(0, std::vector<float>(3)), std::invalid_argument);
  EXPECT_THROW(plan->write_running(0, std::vector<float>(3)), std::invalid_argument);
}

TEST(OnednnPlan, ProfileTimesEveryPassAndChangesNothing) {
  const Net net = small_net();
  const auto profiled = onednn_plan(net, 4), plain = onednn_plan(net, 4);
  train(*profiled, 1);
  train(*plain, 1);
  const Data data = make_data(net, 4, 5);
  const auto times = profiled->profile(data.batch());
  std::set<std::string> passes;
  for (const OpTime& op : times) {
    passes.insert(op.pass);
    EXPECT_FALSE(op.implementation.empty()) << op.node;
  }
  EXPECT_EQ(passes, (std::set<std::string>{"load", "forward", "backward_data", "backward_weights",
                                           "update"}));
  for (int step = 1; step < 3; ++step) {
    for (auto* plan : {profiled.get(), plain.get()}) {
      const Data next = make_data(net, 4, step);
      plan->forward(next.batch());
      plan->backward();
      plan->update(kStep);
    }
  }
  EXPECT_TRUE(std::ranges::equal(profiled->parameter_block(), plain->parameter_block()));
  for (std::size_t s = 0; s < net.running_statistics().size(); ++s) {
    EXPECT_EQ(profiled->read_running(static_cast<int>(s)),
              plain->read_running(static_cast<int>(s)));
  }
}

TEST(OnednnPlan, FaultsAreSeenInTheirGradients) {
  const Net net = small_net();
  const Data data = make_data(net, 4);
  const auto right = onednn_plan(net, 4);
  Faults sign;
  sign.negate_gradient = "bn.weight";
  const auto negated = onednn_plan(net, 4, "", 2, sign);
  Faults branch;
  branch.negate_residual_gradient = true;
  const auto residual = onednn_plan(net, 4, "", 2, branch);
  for (auto* plan : {right.get(), negated.get(), residual.get()}) {
    plan->forward(data.batch());
    plan->backward();
  }
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    const int p = static_cast<int>(i);
    const std::string& name = net.parameters()[i].name;
    auto wanted = right->read_gradient(p);
    EXPECT_EQ(relative_distance(residual->read_gradient(p), wanted) > 0.1,
              name.starts_with("conv.") || name.starts_with("bn."))
        << name;
    if (name == "bn.weight")
      for (double& value : wanted) value = -value;
    EXPECT_EQ(negated->read_gradient(p), wanted) << name;
  }
}

TEST(OnednnPlan, RefusesWrongUse) {
  const Net net = small_net();
  const auto plan = onednn_plan(net, 4);
  const Data data = make_data(net, 4), short_data = make_data(net, 3);
  EXPECT_THROW(plan->backward(), std::logic_error);
  EXPECT_THROW(plan->forward(short_data.batch()), std::invalid_argument);
  Data bad_label = data;
  bad_label.labels[2] = 5;
  EXPECT_THROW(plan->forward(bad_label.batch()), std::invalid_argument);
  plan->evaluate(data.batch());
  EXPECT_THROW(plan->backward(), std::logic_error);
  PlanOptions options;
  options.precision = "fp16";
  EXPECT_THROW(make_onednn_backend()->compile(net, options), std::invalid_argument);
  options.precision = "fp32";
  options.fusion = "magic";
  EXPECT_THROW(make_onednn_backend()->compile(net, options), std::invalid_argument);
}

TEST(OnednnPlan, SaysHowMuchMemoryIsMissing) {
  const Net net = make_net(512, 5, [](Net& n) {
    Node x = n.conv2d(n.input(), "a", {.out = 1024});
    n.loss(n.linear(n.flatten(n.adaptive_average_pool(x, {1})), "fc", {5}));
  });
  PlanOptions options;
  options.batch = 65536;  // the convolution's output alone is 70 TB
  try {
    make_onednn_backend()->compile(net, options);
    FAIL() << "compiled";
  } catch (const OutOfMemory& error) {
    EXPECT_GT(error.bytes_wanted, std::int64_t{64} << 40);
    EXPECT_GT(error.bytes_free, 0);
    EXPECT_LT(error.bytes_free, error.bytes_wanted);
  }
}

TEST(OnednnPlan, FactsNameTheLibrary) {
  const auto facts = onednn_plan(small_net(), 4, "", 2)->facts();
  EXPECT_EQ(facts.backend, "onednn");
  EXPECT_EQ(facts.fusion,
            onednn::offers_winograd() ? "bn-relu-add+recompute+winograd" : "bn-relu-add+recompute");
  EXPECT_EQ(facts.threads, 2);
  EXPECT_GT(facts.arena_bytes, 0);
  EXPECT_FALSE(facts.libraries.at("onednn").empty());
  EXPECT_FALSE(facts.isa.empty());
}

}  // namespace
}  // namespace rackmark::worker::test
