// The GPU backend's plans on the host device against the plain backend in double: every layer,
// every way in which nodes are merged, all precisions.
#include <gtest/gtest.h>

#include <algorithm>

#include "same_training.hpp"

namespace rackmark::worker::test {
namespace {

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
  expect_same_training(one_logit_net(), 3);
}

}  // namespace
}  // namespace rackmark::worker::test
