// Training in bf16 beside the same training in float32, for longer than a unit test may take.
#include <cstdio>

#include "tests/worker/onednn/bf16_nets.hpp"

namespace rackmark::worker::test {
namespace {

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

}  // namespace
}  // namespace rackmark::worker::test
