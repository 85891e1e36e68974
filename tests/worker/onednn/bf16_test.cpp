// Training in bf16 beside the same training in float32. Every layer's bf16 is compared with double
// in layers_test.cpp.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "tests/worker/onednn/bf16_nets.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker::test {
namespace {

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double product = 0, squares_a = 0, squares_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += a[i] * b[i];
    squares_a += a[i] * a[i];
    squares_b += b[i] * b[i];
  }
  return product / std::sqrt(squares_a * squares_b);
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
  const char* who = onednn::has_bf16() ? "native" : "emulated by Rackmark";
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
