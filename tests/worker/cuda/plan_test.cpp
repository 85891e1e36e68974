// What a plan of the GPU backend promises beside its numbers: steps, pictures, memory, faults,
// errors.
#include <gmock/gmock.h>

#include <numeric>

#include "same_training.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::test {
namespace {

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
