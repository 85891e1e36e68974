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

TEST(CudaInference, FoldsBatchNormAndAddsResiduals) {
  expect_same_answers(
      make_net(9, 5,
               [](Net& n) {
                 const Conv2d three{
                     .out = 16, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
                 const auto norm = [&](Node x, const std::string& name) {
                   return n.batch_norm(n.conv2d(x, name, three), name + ".bn");
                 };
                 Node x = n.relu(norm(n.input(), "a"));
                 x = n.relu(n.add(norm(n.relu(norm(x, "b")), "c"), x));
                 x = n.relu(n.add(norm(x, "d"), norm(x, "e")));
                 x = n.batch_norm(n.max_pool(x, {3, 2, 1}), "lone");
                 n.loss(n.linear(n.dropout(n.flatten(x), 0.5), "fc", {5}));
               }),
      3);
}

TEST(CudaInference, MakesPartsInsideConcats) {
  expect_same_answers(
      make_net(10, 4,
               [](Net& n) {
                 const Node x = n.relu(n.conv2d(n.input(), "a", {.out = 12, .bias = true}));
                 const Node b = n.relu(n.batch_norm(n.conv2d(x, "b", {.out = 8}), "bn"));
                 const Node c = n.add(n.conv2d(x, "c", {.out = 12}), x);
                 const Node joined = n.concat({b, n.max_pool(x, {3, 1, 1}), c, n.relu(c)});
                 Node y = n.local_response_norm(n.average_pool(joined, {3, 2, 1}), {});
                 y = n.relu(n.linear(n.flatten(n.adaptive_average_pool(y, {2})), "fc1", {9}));
                 n.loss(n.linear(n.dropout(y, 0.5), "fc2", {4}));
               }),
      2);
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

}  // namespace
}  // namespace rackmark::worker::test
