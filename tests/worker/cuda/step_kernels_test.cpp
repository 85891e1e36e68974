// Kernels that close a step: losses and the optimizer; and what all kernels refuse.
#include "tests/worker/cuda/kernel_cases.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker::cuda::testing {
namespace {

// --- loss ----------------------------------------------------------------------------------------

TEST(CudaKernels, SoftmaxCrossEntropy) {
  for_types([](Type type) {
    for (const int classes : {2, 10, 257, 1000, 21841}) {
      SCOPED_TRACE(classes);
      const int rows = classes > 1000 ? 2 : 5;
      auto logits = floats(rows * classes, 1, 3);
      for (int c = 0; c < classes; ++c) logits[static_cast<std::size_t>(c)] += 20000;  // overflow?
      std::vector<std::int32_t> labels(static_cast<std::size_t>(rows));
      for (int row = 0; row < rows; ++row)
        labels[static_cast<std::size_t>(row)] = row * 31 % classes;
      std::vector<StepState> states(1);
      StepState& state = states[0];
      state.loss_scale = 128;
      std::vector<float> losses(labels.size());
      Stored gradient(type, rows, classes, classes + 3);
      CrossEntropy k{LossForm::kSoftmax, logits.data(), rows, classes, labels.data(), 0.3, &state};
      k.row_loss = losses.data();
      tested_kernels(type).cross_entropy(nullptr, k);  // the loss alone
      const auto alone = losses;
      k.d_logits = gradient.matrix();
      tested_kernels(type).cross_entropy(nullptr, k);
      EXPECT_EQ(losses, alone);
      std::vector<double> total(labels.size());
      for (int row = 0; row < rows; ++row) {
        const float* z = logits.data() + row * classes;
        const double largest = *std::max_element(z, z + classes);
        double sum = 0;
        for (int c = 0; c < classes; ++c) sum += std::exp(z[c] - largest);
        const auto i = static_cast<std::size_t>(row);
        total[i] = largest + std::log(sum);
        const double want = 0.3 / rows * (total[i] - z[labels[i]]);
        ASSERT_NEAR(losses[i], want, 1e-6 * std::abs(want) + 1e-6);
      }
      expect_values(
          type, gradient,
          [&](std::int64_t row, int c) {
            const auto i = static_cast<std::size_t>(row);
            const double z =
                logits[i * static_cast<std::size_t>(classes) + static_cast<std::size_t>(c)];
            return 128 * 0.3 / rows * (std::exp(z - total[i]) - (c == labels[i]));
          },
          1);
    }
  });
}

TEST(CudaKernels, CrossEntropyOfNanAndOfNoClass) {
  for_types([](Type type) {
    auto logits = floats(3 * 300, 1);
    logits[300 + 280] = static_cast<float>(kNan);
    const std::vector<std::int32_t> labels{4, 0, 300};
    std::vector<StepState> states(1);
    StepState& state = states[0];
    std::vector<float> losses(3);
    Stored gradient(type, 3, 304);
    CrossEntropy k{LossForm::kSoftmax, logits.data(), 3, 300, labels.data(), 1, &state};
    k.d_logits = gradient.matrix(), k.row_loss = losses.data();
    tested_kernels(type).cross_entropy(nullptr, k);
    EXPECT_TRUE(std::isfinite(losses[0]));
    EXPECT_TRUE(std::isnan(losses[1]));
    EXPECT_TRUE(std::isnan(losses[2]));
    EXPECT_TRUE(std::isnan(gradient.get(1, 7)));
    EXPECT_EQ(gradient.get(0, 301), 0);  // columns that are no class
  });
}

TEST(CudaKernels, SigmoidCrossEntropyAndSumOfLosses) {
  for_types([](Type type) {
    const std::vector<float> logits{0.3F, -2, 100, -100, 5};
    const std::vector<std::int32_t> labels{1, 0, 1, 1, 0};
    std::vector<StepState> states(1);
    StepState& state = states[0];
    state.loss_scale = 4;
    std::vector<float> losses(5);
    Stored gradient(type, 5, 1, 8);
    CrossEntropy k{LossForm::kSigmoid, logits.data(), 5, 1, labels.data(), 2, &state};
    k.d_logits = gradient.matrix(), k.row_loss = losses.data();
    tested_kernels(type).cross_entropy(nullptr, k);
    double sum = 0;
    for (int row = 0; row < 5; ++row) {
      const double z = logits[static_cast<std::size_t>(row)];
      const double want = 2.0 / 5 *
                          (std::log1p(std::exp(-std::abs(z))) + relu(z) -
                           z * labels[static_cast<std::size_t>(row)]);
      ASSERT_NEAR(losses[static_cast<std::size_t>(row)], want, 1e-6 * std::abs(want) + 1e-7);
      sum += losses[static_cast<std::size_t>(row)];
    }
    expect_values(type, gradient, [&](std::int64_t row, int) {
      return 4 * 2.0 / 5 * (1 / (1 + std::exp(-static_cast<double>(logits[row]))) - labels[row]);
    });
    tested_kernels(type).loss_sum(nullptr, {losses.data(), 5, &state});
    EXPECT_NEAR(state.loss, sum, 1e-12);
  });
  const auto many = floats(1000, 1);
  std::vector<StepState> states(1);
  StepState& state = states[0];
  tested_kernels(Type::kFloat).loss_sum(nullptr, {many.data(), 1000, &state});
  EXPECT_NEAR(state.loss, std::accumulate(many.begin(), many.end(), 0.0), 1e-9);
}

// --- optimizer -----------------------------------------------------------------------------------

TEST(CudaKernels, SgdUpdatesUnlessGradientsOverflowed) {
  for (const Type type : kTypes) {
    for (const int count : {3, 16, 61}) {
      for (const int offset : {0, 1}) {
        SCOPED_TRACE(std::string(name_of(type)) + " " + std::to_string(count));
        const auto w = floats(count + offset, 1), v = floats(count + offset, 2);
        const auto g = floats(count + offset, 3);
        auto weights = w, velocities = v;
        Stored narrow(type, count, 1);
        narrow.fill([](std::int64_t, int) { return 9; });
        std::vector<StepState> states(1);
        StepState& state = states[0];
        state.learning_rate = 0.1F, state.momentum = 0.9F, state.weight_decay = 0.01F;
        const Sgd k{weights.data() + offset,
                    velocities.data() + offset,
                    g.data() + offset,
                    narrow.matrix().data,
                    count,
                    &state};
        state.overflow = 1;
        tested_kernels(type).sgd(nullptr, k);
        EXPECT_EQ(weights, w);
        EXPECT_EQ(velocities, v);
        EXPECT_EQ(narrow.get(0, 0), 9);
        state.overflow = 0;
        state.gradient_scale = 4;
        tested_kernels(type).sgd(nullptr, k);
        for (int i = 0; i < count; ++i) {
          const auto at = static_cast<std::size_t>(i + offset);
          const double velocity = 0.9F * v[at] + (g[at] / 4 + 0.01F * w[at]);
          ASSERT_NEAR(velocities[at], velocity, 1e-6);
          ASSERT_NEAR(weights[at], w[at] - 0.1F * velocity, 1e-6);
          ASSERT_EQ(narrow.get(i, 0), rounded(type, weights[at]));
        }
        EXPECT_EQ(weights[0] == w[0], offset == 1);
        Sgd plain = k;
        plain.narrow = nullptr;
        tested_kernels(type).sgd(nullptr, plain);
      }
    }
  }
}

TEST(CudaKernels, UnscaleAndFindOverflow) {
  const Kernels& kernels = tested_kernels(Type::kHalf);
  for (const int count : {5, 64, 77}) {
    SCOPED_TRACE(count);
    const auto before = floats(count, 1);
    auto gradients = before;
    std::vector<StepState> states(1);
    StepState& state = states[0];
    state.loss_scale = 1024;
    kernels.unscale(nullptr, {gradients.data(), count, &state});
    expect_close(
        gradients, [&](int i) { return before[static_cast<std::size_t>(i)] / 1024.0; }, 0);
    for (const double bad : {kNan, kInfinity, -kInfinity}) {
      for (const int at : {0, count / 2, count - 1}) {
        gradients = before;
        gradients[static_cast<std::size_t>(at)] = static_cast<float>(bad);
        state.overflow = 0;
        kernels.find_overflow(nullptr, {gradients.data(), count, &state});
        ASSERT_EQ(state.overflow, 1) << bad << " at " << at;
      }
    }
    kernels.find_overflow(nullptr, {before.data(), count, &state});
    EXPECT_EQ(state.overflow, 0);
    EXPECT_EQ(state.gradient_scale, 1);
    kernels.find_overflow(nullptr, {before.data(), count, &state, true});
    EXPECT_EQ(state.gradient_scale, 1024);
  }
}

TEST(CudaKernels, LossScaleHalvesAndDoubles) {
  const Kernels& kernels = tested_kernels(Type::kHalf);
  std::vector<StepState> states(1);
  StepState& state = states[0];
  state.loss_scale = 4;
  state.good_steps = 7;
  for (const float scale : {2.0F, 1.0F, 1.0F}) {
    state.overflow = 1;
    kernels.adjust_scale(nullptr, {&state});
    EXPECT_EQ(state.loss_scale, scale);
    EXPECT_EQ(state.overflow, 0);
    EXPECT_EQ(state.good_steps, 0);
  }
  EXPECT_EQ(state.skipped, 3);
  for (int i = 0; i < 1999; ++i) kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 1);
  kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 2);
  for (int i = 0; i < 1999; ++i) kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 2);
  state.loss_scale = 65536.0F * 256;
  kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 65536.0F * 256);
  EXPECT_EQ(state.skipped, 3);
  state.overflow = 1;  // a scale that the spec has set stays, and the step counts all the same
  kernels.adjust_scale(nullptr, {&state, true});
  EXPECT_EQ(state.loss_scale, 65536.0F * 256);
  EXPECT_EQ(state.overflow, 0);
  EXPECT_EQ(state.skipped, 4);
}

// --- refusals ------------------------------------------------------------------------------------

TEST(CudaKernels, RefuseWhatTheyCannotDo) {
  const Kernels& kernels = tested_kernels(Type::kHalf);
  Stored a = drawn(Type::kHalf, {4, 8}, 1), b = drawn(Type::kHalf, {5, 8}, 2);
  EXPECT_THROW(kernels.rectify(nullptr, {a.matrix(), b.matrix(), nullptr}), std::invalid_argument);
  Matrix large = a.matrix();
  large.rows = 1LL << 31;
  EXPECT_THROW(kernels.rectify(nullptr, {large, large, nullptr}), std::invalid_argument);
  const Picture x{a.matrix(), 1, 2, 2}, y{b.matrix(), 1, 5, 1};
  EXPECT_THROW(kernels.max_pool(nullptr, {x, y, {16, 1, 0}, nullptr}), std::invalid_argument);
  EXPECT_THROW(kernels.max_pool(nullptr, {x, y, {.adaptive = true}, nullptr}),
               std::invalid_argument);
  EXPECT_THROW(kernels.average_pool(nullptr, {x, y, {2, 2, 2}}), std::invalid_argument);
  EXPECT_THROW(kernels.response_norm(nullptr, {a.matrix(), a.matrix(), 11}), std::invalid_argument);
  const PictureWindow window;
  const std::uint8_t byte = 0;
  EXPECT_THROW(kernels.load_raw_pictures(nullptr, {&byte, &window, 1, x}), std::invalid_argument);
  EXPECT_THROW(kernels.load_raw_pictures(nullptr, {&byte, nullptr, 2, x}), std::invalid_argument);
  try {
    kernels.copy(nullptr, {a.matrix(), b.matrix()});
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "copy: matrices differ in rows or channels");
  }
}

}  // namespace
}  // namespace rackmark::worker::cuda::testing
