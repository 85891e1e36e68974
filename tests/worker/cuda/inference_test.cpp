// The GPU backend's inference on the host device against the plain backend in double.
#include "plans.hpp"

namespace rackmark::worker::test {
namespace {

void expect_same_answers(const Net& net, int batch) {
  struct Case {
    const char *precision, *fusion;
    double tolerance;
  };
  for (const Case& each : {Case{"fp32", "", 2e-5}, Case{"fp32", "none", 2e-5},
                           Case{"bf16", "", 0.04}, Case{"fp16", "", 0.005}}) {
    SCOPED_TRACE(std::string(each.precision) + " fusion '" + each.fusion + "'");
    const InferOptions options{.batch = batch, .precision = each.precision, .fusion = each.fusion};
    const auto plan = host_cuda_backend()->compile_inference(net, options, make_values(net));
    for (int seed = 0; seed < 2; ++seed) {
      const auto images = make_images(net, batch, seed);
      plan->run({.images = images});
      EXPECT_LT(relative_distance(plan->logits(), exact_logits(net, batch, images)),
                each.tolerance);
    }
  }
}

Net residual_net() {
  return make_net(9, 5, [](Net& n) {
    const Conv2d three{.out = 16, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
    const auto norm = [&](Node x, const std::string& name) {
      return n.batch_norm(n.conv2d(x, name, three), name + ".bn");
    };
    Node x = n.relu(norm(n.input(), "a"));
    x = n.relu(n.add(norm(n.relu(norm(x, "b")), "c"), x));
    x = n.relu(n.add(norm(x, "d"), norm(x, "e")));
    x = n.batch_norm(n.max_pool(x, {3, 2, 1}), "lone");
    n.loss(n.linear(n.dropout(n.flatten(x), 0.5), "fc", {5}));
  });
}
Net concat_net() {
  return make_net(10, 4, [](Net& n) {
    const Node x = n.relu(n.conv2d(n.input(), "a", {.out = 12, .bias = true}));
    const Node b = n.relu(n.batch_norm(n.conv2d(x, "b", {.out = 8}), "bn"));
    const Node c = n.add(n.conv2d(x, "c", {.out = 12}), x);
    const Node joined = n.concat({b, n.max_pool(x, {3, 1, 1}), c, n.relu(c)});
    Node y = n.local_response_norm(n.average_pool(joined, {3, 2, 1}), {});
    y = n.relu(n.linear(n.flatten(n.adaptive_average_pool(y, {2})), "fc1", {9}));
    n.loss(n.linear(n.dropout(y, 0.5), "fc2", {4}));
  });
}
// What integers go through: a first pool, joins of pools and convolutions, and what leaves them.
Net inception_net() {
  return make_net(12, 4, [](Net& n) {
    const Conv2d three{.out = 8, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
    Node x = n.relu(n.conv2d(n.input(), "a", {.out = 16, .bias = true}));
    x = n.max_pool(x, {3, 2, 1});
    for (const std::string block : {"1", "2"}) {
      const Node b = n.relu(n.batch_norm(n.conv2d(x, block + "b", {.out = 8}), block + "bn"));
      const Node c = n.relu(n.conv2d(b, block + "c", three));
      const Node d = n.conv2d(n.average_pool(x, {3, 1, 1}), block + "d", {.out = 4});
      x = n.concat({b, c, d, n.max_pool(x, {3, 1, 1})});
    }
    x = n.local_response_norm(n.relu(n.conv2d(x, "f", three)), {});
    x = n.relu(n.conv2d(x, "last", three));
    n.loss(n.linear(n.flatten(n.adaptive_average_pool(x, {1})), "fc", {4}));
  });
}

// Sums that are made inside a concat, of a value that lies elsewhere; of 16 channels, and of 12,
// whose rows do not begin where libraries can load.
Net sum_in_concat_net(int channels) {
  return make_net(9, 4, [=](Net& n) {
    const Node x = n.relu(n.conv2d(n.input(), "a", {.out = channels, .bias = true}));
    const Node sum = n.relu(n.add(n.conv2d(x, "b", {.out = channels}), x));
    const Node c = n.relu(n.conv2d(x, "c", {.out = 16, .bias = true}));
    const Node y = n.relu(n.conv2d(n.concat({c, sum}), "d", {.out = 8}));
    n.loss(n.linear(n.flatten(y), "fc", {4}));
  });
}
// The pictures themselves are read by what does not compute in integers.
Net normed_input_net() {
  return make_net(8, 4, [](Net& n) {
    const Node x = n.relu(n.conv2d(n.batch_norm(n.input(), "first"), "a", {.out = 16}));
    n.loss(n.linear(n.flatten(n.max_pool(x, {2, 2})), "fc", {4}));
  });
}
Net twice_read_input_net() {
  return make_net(8, 4, [](Net& n) {
    const Node a = n.relu(n.conv2d(n.input(), "a", {.out = 16}));
    const Node b = n.relu(n.conv2d(n.local_response_norm(n.input(), {}), "b", {.out = 16}));
    n.loss(n.linear(n.flatten(n.max_pool(n.concat({a, b}), {2, 2})), "fc", {4}));
  });
}

TEST(CudaInference, FoldsBatchNormAndAddsResiduals) {
  expect_same_answers(residual_net(), 3);
  expect_same_answers(normed_input_net(), 3);
  expect_same_answers(twice_read_input_net(), 3);
}

TEST(CudaInference, MakesPartsInsideConcats) {
  expect_same_answers(concat_net(), 2);
  expect_same_answers(inception_net(), 2);
  for (const int channels : {16, 12}) expect_same_answers(sum_in_concat_net(channels), 2);
}

TEST(CudaInference, AnswersBytesAsFloatsMadeOfThem) {
  const Net net = make_net(9, 4, [](Net& n) {
    const Node x = n.relu(n.conv2d(n.input(), "a", {.out = 8, .bias = true}));
    n.loss(n.linear(n.flatten(x), "fc", {4}));
  });
  const auto backend = host_cuda_backend();
  for (const std::string precision : {"fp32", "fp16"}) {
    SCOPED_TRACE(precision);
    InferOptions options{.batch = 3, .precision = precision};
    const auto floats = backend->compile_inference(net, options, make_values(net));
    options.raw_side = 13;
    const auto bytes = backend->compile_inference(net, options, make_values(net));
    EXPECT_EQ(bytes->facts().notes.count("pictures"), 1U);
    for (int seed = 0; seed < 3; ++seed) {
      const RawData raw = make_raw_data(net, 3, 13, seed);
      const Data data = normalised(net, raw);
      bytes->run({.raw = raw.raw()});
      floats->run({.images = data.images});
      EXPECT_EQ(bytes->logits(), floats->logits());
      EXPECT_EQ(bytes->profile({.raw = raw.raw()}).front().implementation, "load_raw_pictures");
    }
    const Data data = make_data(net, 3);
    EXPECT_THROW(bytes->run({.images = data.images}), std::invalid_argument);
    EXPECT_THROW(floats->run({.raw = make_raw_data(net, 3, 13, 1).raw()}), std::invalid_argument);
  }
}

// Each batch is overwritten by the next one while it is answered.
TEST(CudaInference, BringsTheNextBatchWhileOneIsAnswered) {
  const Net net = residual_net();
  for (const int side : {0, 13}) {
    SCOPED_TRACE(side);
    const InferOptions options{.batch = 3, .raw_side = side};
    const auto one_by_one = host_cuda_backend()->compile_inference(net, options, make_values(net));
    const auto ahead = host_cuda_backend()->compile_inference(net, options, make_values(net));
    RawData raw;
    std::vector<float> images;
    int given = 0;
    const auto batch = [&](int seed) {
      raw = make_raw_data(net, 3, std::max(side, 9), seed);
      images = make_images(net, 3, seed);
      return side > 0 ? Batch{.raw = raw.raw()} : Batch{.images = images};
    };
    const NextBatch next = [&] { return batch(given++); };
    const auto expect_answers_of = [&](int seed) {
      one_by_one->run(batch(seed));
      EXPECT_EQ(ahead->logits(), one_by_one->logits()) << seed;
    };
    for (int i = 0; i < 4; ++i) {
      EXPECT_GE(ahead->run_and_bring(next), 0);
      expect_answers_of(i);
    }
    EXPECT_EQ(given, 5);
    ahead->run(batch(11));  // instead of the one that was brought
    expect_answers_of(11);
    EXPECT_FALSE(ahead->profile(batch(12)).empty());
    ahead->run_and_bring(next);
    expect_answers_of(5);
    EXPECT_THROW(ahead->run_and_bring([]() -> Batch { throw std::runtime_error("broken"); }),
                 std::runtime_error);
  }
}

// How far integers of 8 bits are from the true answers, in pictures that ranges were not taken
// from.
void expect_close_answers(const Net& net, int batch, double tolerance, const std::string& layers) {
  for (const char* fusion : {"", "none"}) {
    SCOPED_TRACE(fusion);
    InferOptions options{.batch = batch, .precision = "int8", .fusion = fusion};
    for (int seed = 10; seed < 14; ++seed)
      options.calibration.push_back(make_images(net, batch, seed));
    const auto plan = host_cuda_backend()->compile_inference(net, options, make_values(net));
    EXPECT_EQ(plan->facts().notes.at("int8 layers"), layers);
    for (int seed = 0; seed < 2; ++seed) {
      const auto images = make_images(net, batch, seed);
      plan->run({.images = images});
      const double distance = relative_distance(plan->logits(), exact_logits(net, batch, images));
      EXPECT_LT(distance, tolerance);
      EXPECT_GT(distance, tolerance / 100);  // integers were at work
    }
  }
}

TEST(CudaInferenceInt8, AddsResiduals) {
  expect_close_answers(residual_net(), 3, 0.05, "5 of 6; fp16: fc");
}

TEST(CudaInferenceInt8, JoinsAndPoolsHandIntegersOn) {
  expect_close_answers(concat_net(), 2, 0.05, "3 of 5; fp16: fc1, fc2");
  expect_close_answers(inception_net(), 2, 0.05, "9 of 10; fp16: fc");
  for (const int channels : {16, 12})
    expect_close_answers(sum_in_concat_net(channels), 2, 0.05, "4 of 5; fp16: fc");
}

TEST(CudaInferenceInt8, PicturesMayBeOtherThanIntegers) {
  expect_close_answers(normed_input_net(), 3, 0.05, "1 of 2; fp16: fc");
  expect_close_answers(twice_read_input_net(), 3, 0.05, "2 of 3; fp16: fc");
}

InferOptions int8_options(const Net& net, int batch) {
  return {.batch = batch, .precision = "int8", .calibration = {make_images(net, batch, 10)}};
}

// Between convolutions nothing is converted; only what 16-bit operations made is.
TEST(CudaInferenceInt8, ValuesStayIntegersFromLayerToLayer) {
  const auto conversions = [](const Net& net) {
    const auto plan =
        host_cuda_backend()->compile_inference(net, int8_options(net, 2), make_values(net));
    std::vector<std::string> nodes;
    for (const OpTime& row : plan->profile({.images = make_images(net, 2, 1)})) {
      if (row.implementation == "to_integers") nodes.push_back(row.node);
    }
    return nodes;
  };
  EXPECT_EQ(conversions(residual_net()), std::vector<std::string>{});
  EXPECT_EQ(conversions(inception_net()), std::vector<std::string>{"last"});
}

TEST(CudaInferenceInt8, TakesBytes) {
  const Net net = residual_net();
  InferOptions options = int8_options(net, 3);
  const auto floats = host_cuda_backend()->compile_inference(net, options, make_values(net));
  options.raw_side = 13;
  const auto bytes = host_cuda_backend()->compile_inference(net, options, make_values(net));
  const RawData raw = make_raw_data(net, 3, 13, 1);
  const Data data = normalised(net, raw);
  floats->run({.images = data.images});
  bytes->run({.raw = raw.raw()});
  EXPECT_EQ(bytes->logits(), floats->logits());
}

// For one picture the plan that ranges are taken with is the larger one.
TEST(CudaInferenceInt8, FitsIntoWhatIsPredictedAndNoLess) {
  const Net net = inception_net();
  for (const int batch : {1, 40}) {
    const InferOptions options = int8_options(net, batch);
    const auto predicted =
        host_cuda_backend()->predict_inference_bytes(net, options, make_values(net)).value();
    const auto compiled = [&](std::int64_t memory) {
      return host_cuda_backend({.memory_bytes = memory})
          ->compile_inference(net, options, make_values(net));
    };
    EXPECT_LE(compiled(predicted)->facts().arena_bytes, predicted);
    EXPECT_THROW(compiled(predicted - 1), OutOfMemory);
  }
  const InferOptions options = int8_options(net, 40);
  InferOptions half = options;
  half.precision = "fp16";
  const auto backend = host_cuda_backend();
  EXPECT_LT(backend->compile_inference(net, options, make_values(net))->facts().arena_bytes,
            backend->compile_inference(net, half, make_values(net))->facts().arena_bytes);
}

TEST(CudaInferenceInt8, RefusesWhatHasNoRange) {
  const Net net = residual_net();
  InferOptions options = int8_options(net, 2);
  options.calibration.clear();
  const auto message = [&](const TrainedValues& values) -> std::string {
    try {
      host_cuda_backend()->compile_inference(net, options, values);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(make_values(net)), "cuda: int8 needs calibration pictures");
  options.calibration = {std::vector<float>(7)};
  EXPECT_EQ(message(make_values(net)),
            "cuda: a calibration batch has 7 values, at least 486 are wanted");
  options = int8_options(net, 2);
  TrainedValues broken = make_values(net);
  broken.parameters[0][0] = NAN;
  EXPECT_EQ(message(broken),
            "cuda: node 'relu_3' gives values that are not finite: no range for int8");
  EXPECT_THROW(host_cuda_backend()->compile(net, {.batch = 2, .precision = "int8"}),
               std::invalid_argument);
}

}  // namespace
}  // namespace rackmark::worker::test
