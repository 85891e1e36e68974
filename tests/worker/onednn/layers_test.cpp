// Every layer against the plain backend in double: odd sizes, channels that do not fill a block,
// batch 1, and every way in which a batch norm can be merged with its neighbours.
#include <stdexcept>

#include "tests/worker/onednn/compare.hpp"

namespace rackmark::worker::test {
namespace {

Node classify(Net& net, Node x) {
  return net.linear(net.flatten(net.adaptive_average_pool(x, {1})), "fc", {net.classes()});
}

TEST(OnednnLayers, ConvolutionShapes) {
  for (const Conv2d layer :
       {Conv2d{.out = 16, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1},
        Conv2d{.out = 5, .kernel_h = 1, .kernel_w = 1, .bias = true},
        Conv2d{.out = 33, .kernel_h = 5, .kernel_w = 5, .stride = 2, .bias = true},
        Conv2d{.out = 20, .kernel_h = 7, .kernel_w = 1, .pad_h = 3},
        Conv2d{.out = 24, .kernel_h = 3, .kernel_w = 3, .stride = 2, .pad_h = 1, .pad_w = 1}}) {
    SCOPED_TRACE(layer.out);
    for (const int batch : {1, 3}) {
      expect_same_training(make_net(13, 7,
                                    [&](Net& net) {
                                      Node x = net.conv2d(net.input(), "a", layer);
                                      x = net.conv2d(net.relu(x), "b", layer);
                                      net.loss(classify(net, x));
                                    }),
                           batch);
    }
  }
}

TEST(OnednnLayers, Pools) {
  const auto with = [](auto pool, int size) {
    return make_net(size, 5, [&](Net& net) {
      Node x =
          net.conv2d(net.input(), "a", {.out = 18, .kernel_h = 3, .kernel_w = 3, .bias = true});
      x = pool(net, x);
      net.loss(net.linear(net.flatten(x), "fc", {5}));
    });
  };
  for (const int size : {11, 14}) {
    SCOPED_TRACE(size);
    expect_same_training(with([](Net& n, Node x) { return n.max_pool(x, {3, 2, 1}); }, size), 2);
    expect_same_training(with([](Net& n, Node x) { return n.max_pool(x, {2, 2, 0}); }, size), 1);
    expect_same_training(with(
                             [](Net& n, Node x) {
                               return n.max_pool(x, {3, 2, 0, true});
                             },
                             size),
                         2);
    expect_same_training(with(
                             [](Net& n, Node x) {
                               return n.average_pool(x, {3, 1, 1});
                             },
                             size),
                         2);
    expect_same_training(with(
                             [](Net& n, Node x) {
                               return n.average_pool(x, {3, 2, 0});
                             },
                             size),
                         2);
  }
  expect_same_training(with([](Net& n, Node x) { return n.adaptive_average_pool(x, {3}); }, 14), 2);
}

TEST(OnednnLayers, PoolAndNormDirectlyAfterTheInput) {
  const auto net = make_net(10, 4, [](Net& n) {
    Node x = n.batch_norm(n.input(), "bn");
    x = n.max_pool(x, {2, 2, 0});
    n.loss(n.linear(n.flatten(x), "fc", {4}));
  });
  expect_same_training(net, 3);
}

TEST(OnednnLayers, LinearChain) {
  const auto net = make_net(6, 10, [](Net& n) {
    Node x = n.relu(n.linear(n.flatten(n.input()), "a", {37}));
    x = n.relu(n.linear(x, "b", {16, false}));
    n.loss(n.linear(x, "c", {10}));
  });
  expect_same_training(net, 1);
  expect_same_training(net, 5);
}

TEST(OnednnLayers, NormWithAndWithoutRelu) {
  for (const int channels : {3, 16, 40}) {
    for (const int batch : {1, 4}) {
      for (const char* fusion : {"", "none"}) {
        SCOPED_TRACE(channels);
        expect_same_training(make_net(9, 4,
                                      [&](Net& n) {
                                        Node x = n.conv2d(
                                            n.input(), "a",
                                            {.out = channels, .kernel_h = 3, .kernel_w = 3});
                                        x = n.relu(n.batch_norm(x, "bn1"));
                                        x = n.conv2d(x, "b", {.out = channels});
                                        x = n.batch_norm(x, "bn2", {1e-3, 0.2});
                                        x = n.relu(n.conv2d(x, "c", {.out = 8}));
                                        n.loss(classify(n, x));
                                      }),
                             batch, fusion);
      }
    }
  }
}

// The block of ResNet: residual tensor, then a second batch norm, in both orders of the Add.
Net residual_net(bool swap, int channels) {
  return make_net(8, 4, [=](Net& n) {
    const auto conv_bn = [&](Node x, const std::string& name, int kernel) {
      const Conv2d layer{.out = channels,
                         .kernel_h = kernel,
                         .kernel_w = kernel,
                         .pad_h = kernel / 2,
                         .pad_w = kernel / 2};
      return n.batch_norm(n.conv2d(x, name, layer), name + "_bn");
    };
    const auto add = [&](Node main, Node residual) {
      return swap ? n.add(residual, main) : n.add(main, residual);
    };
    Node x = n.relu(conv_bn(n.input(), "stem", 3));
    x = n.relu(add(conv_bn(n.relu(conv_bn(x, "a1", 1)), "a2", 3), conv_bn(x, "down", 1)));
    x = n.relu(add(conv_bn(n.relu(conv_bn(x, "b1", 1)), "b2", 3), x));
    x = n.relu(add(conv_bn(x, "c1", 3), x));
    x = add(conv_bn(x, "d1", 3), x);  // no ReLU after it
    n.loss(classify(n, x));
  });
}

TEST(OnednnLayers, ResidualBlocks) {
  for (const char* fusion : {"", "none", "bn-relu-add+winograd"}) {
    for (const bool swap : {false, true}) {
      SCOPED_TRACE(swap);
      expect_same_training(residual_net(swap, 16), 4, fusion, 5e-4);
      expect_same_training(residual_net(swap, 20), 3, fusion, 5e-4);
    }
  }
}

TEST(OnednnLayers, AddWithoutNorm) {
  const auto net = make_net(7, 3, [](Net& n) {
    const Node x = n.conv2d(n.input(), "a", {.out = 12, .bias = true});
    Node y = n.add(n.conv2d(x, "b", {.out = 12}), x);
    y = n.add(n.relu(y), y);  // read twice, so nothing may be done in place
    y = n.add(y, y);
    n.loss(classify(n, y));
  });
  expect_same_training(net, 2);
}

TEST(OnednnLayers, ThreeReadersOfOneValue) {
  const auto net = make_net(7, 3, [](Net& n) {
    const Node x = n.relu(n.batch_norm(n.conv2d(n.input(), "a", {.out = 16}), "bn"));
    const Node y = n.add(n.conv2d(x, "b", {.out = 16}), n.conv2d(x, "c", {.out = 16}));
    n.loss(classify(n, n.add(y, n.conv2d(x, "d", {.out = 16}))));
  });
  expect_same_training(net, 2);
}

TEST(OnednnLayers, SigmoidAndTwoHeads) {
  expect_same_training(make_net(
                           8, 2,
                           [](Net& n) {
                             Node x = n.relu(n.conv2d(n.input(), "a", {.out = 9, .bias = true}));
                             n.loss(n.linear(n.flatten(x), "fc", {1}));
                           },
                           LossKind::kSigmoidCrossEntropy),
                       4);
  expect_same_training(make_net(8, 6,
                                [](Net& n) {
                                  Node x = n.relu(n.conv2d(n.input(), "a", {.out = 16}));
                                  n.loss(classify(n, x));
                                  n.loss(n.linear(n.flatten(x), "aux", {6}), 0.3);
                                }),
                       3);
}

TEST(OnednnLayers, RefusesWhatItCannotRun) {
  const auto message = [](const Build& build) -> std::string {
    try {
      onednn_plan(make_net(8, 4, build), 2);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  const auto conv = [](Net& n) { return n.conv2d(n.input(), "a", {.out = 16}); };
  EXPECT_NE(message([&](Net& n) {
              n.loss(classify(n, n.concat({conv(n), n.conv2d(n.input(), "b", {.out = 16})})));
            }).find("'concat_3': concat"),
            std::string::npos);
  EXPECT_NE(message([&](Net& n) {
              n.loss(classify(n, n.local_response_norm(conv(n), {})));
            }).find("local response norm"),
            std::string::npos);
  EXPECT_NE(message([&](Net& n) {
              n.loss(classify(n, n.adaptive_average_pool(conv(n), {3})));
            }).find("windows differ"),
            std::string::npos);
  EXPECT_NE(message([&](Net& n) {
              n.conv2d(conv(n), "unused", {.out = 16});
              n.loss(n.linear(n.flatten(n.input()), "fc", {4}));
            }).find("does not reach a loss"),
            std::string::npos);
  EXPECT_NE(
      message([&](Net& n) {
        n.loss(n.linear(n.flatten(n.batch_norm(n.linear(n.flatten(conv(n)), "x", {16}), "bn")),
                        "fc", {4}));
      }).find("'bn': batch norm after a flat layer"),
      std::string::npos);
}

}  // namespace
}  // namespace rackmark::worker::test
