// Training in bf16 beside the same training in float32. Every layer's bf16 is compared with double
// in layers_test.cpp.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "tests/worker/onednn/compare.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker::test {
namespace {

std::unique_ptr<TrainPlan> plan_in(const std::string& precision, const Net& net, int batch) {
  return onednn_plan(net, batch, "", 2, {}, precision);
}

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double product = 0, squares_a = 0, squares_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += a[i] * b[i];
    squares_a += a[i] * a[i];
    squares_b += b[i] * b[i];
  }
  return product / std::sqrt(squares_a * squares_b);
}

Net residual_blocks() {
  return make_net(24, 10, [](Net& n) {
    const auto norm = [&](Node x, const std::string& name, int stride = 1) {
      const Conv2d layer{
          .out = 32, .kernel_h = 3, .kernel_w = 3, .stride = stride, .pad_h = 1, .pad_w = 1};
      return n.batch_norm(n.conv2d(x, name, layer), name + "_bn");
    };
    Node x = n.relu(norm(n.input(), "stem", 2));
    for (const std::string name : {"a", "b", "c"})
      x = n.relu(n.add(norm(n.relu(norm(x, name + "1")), name + "2"), x));
    n.loss(n.linear(n.flatten(n.adaptive_average_pool(x, {1})), "fc", {10}));
  });
}

// A fixed batch of noise, learnt by heart. Near its plateaus a curve says little about rounding and
// much about chance, so the rate is one that leads straight down.
TEST(OnednnBf16, LossFollowsFloat32For200Steps) {
  constexpr int kBatch = 16, kSteps = 200;
  const Net net = residual_blocks();
  const auto wide = plan_in("fp32", net, kBatch), narrow = plan_in("bf16", net, kBatch);
  const Data data = make_data(net, kBatch);
  double first = 0, last = 0;
  for (int step = 0; step < kSteps; ++step) {
    const double wanted = wide->forward(data.batch()), got = narrow->forward(data.batch());
    if (step == 0) first = wanted;
    last = wanted;
    if (step % 20 == 0) std::printf("step %3d: fp32 %.4f bf16 %.4f\n", step, wanted, got);
    EXPECT_NEAR(got, wanted, 0.02 + 0.05 * wanted) << "step " << step;
    for (auto* plan : {wide.get(), narrow.get()}) {
      plan->backward();
      plan->update({.learning_rate = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
    }
  }
  EXPECT_LT(last, 0.2 * first) << "nothing was learnt, so nothing was compared";
}

// As near as bf16 can be: the plain backend, rounded alike, is no nearer. Maxima of a pool that are
// equal after rounding pass their gradient elsewhere.
TEST(OnednnBf16, GradientsPointWhereThoseOfFloat32Do) {
  for (const Net& net : {build_model("cifar10", 24, 10), residual_blocks()}) {
    const Data data = make_data(net, 8);
    const auto wide = plan_in("fp32", net, 8), narrow = plan_in("bf16", net, 8);
    const auto plain = plain_plan(net, 8, "bf16");
    for (auto* plan : {wide.get(), narrow.get(), plain.get()}) {
      plan->forward(data.batch());
      plan->backward();
    }
    for (std::size_t i = 0; i < net.parameters().size(); ++i) {
      const int p = static_cast<int>(i);
      const auto wanted = wide->read_gradient(p);
      const double best = cosine(plain->read_gradient(p), wanted);
      EXPECT_GT(cosine(narrow->read_gradient(p), wanted), best - 0.01)
          << net.model() << " " << net.parameters()[i].name;
      EXPECT_GT(best, 0.96) << net.model() << " " << net.parameters()[i].name;
    }
  }
}

TEST(OnednnBf16, TakesLessMemoryAsPredictedAndSaysWhoComputes) {
  const Net net = residual_blocks();
  const auto wide = plan_in("fp32", net, 32), narrow = plan_in("bf16", net, 32);
  EXPECT_LT(narrow->facts().arena_bytes, 0.75 * static_cast<double>(wide->facts().arena_bytes));
  PlanOptions options;
  options.batch = 32;
  options.threads = 2;
  options.precision = "bf16";
  EXPECT_EQ(make_onednn_backend()->predict_bytes(net, options), narrow->facts().arena_bytes);
  const std::string note = narrow->facts().notes.at("bf16");
  const char* who = !onednn::has_bf16()       ? "emulated by Rackmark"
                    : onednn::computes_bf16() ? "native"
                                              : "emulated by oneDNN";
  EXPECT_TRUE(note.starts_with(who)) << note;
  EXPECT_EQ(note.find("for want of a kernel"), std::string::npos) << note;
  EXPECT_TRUE(wide->facts().notes.empty());
}

TEST(OnednnBf16, KeepsFloat32WeightsAndTheSameBits) {
  const Net net = residual_blocks();
  const Data data = make_data(net, 4);
  const auto a = plan_in("bf16", net, 4), b = plan_in("bf16", net, 4);
  const auto before = a->read_parameter(0);
  for (auto* plan : {a.get(), b.get()}) {
    plan->forward(data.batch());
    plan->backward();
    plan->update({.learning_rate = 1e-5, .momentum = 0, .weight_decay = 0});
  }
  EXPECT_TRUE(std::ranges::equal(a->parameter_block(), b->parameter_block()));
  const auto after = a->read_parameter(0);
  std::size_t moved = 0;  // by far less than bf16 could hold
  for (std::size_t i = 0; i < after.size(); ++i) moved += after[i] != before[i] ? 1 : 0;
  EXPECT_GT(moved, after.size() / 2);
}

}  // namespace
}  // namespace rackmark::worker::test
