// Every layer against the plain backend in double: odd sizes, channels that do not fill a block,
// batch 1, and every way in which a batch norm can be merged with its neighbours.
#include <cmath>
#include <limits>
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
        Conv2d{.out = 24, .kernel_h = 3, .kernel_w = 3, .stride = 2, .pad_h = 1, .pad_w = 1},
        Conv2d{.out = 16, .kernel_h = 9, .kernel_w = 9, .stride = 2, .pad_h = 4, .pad_w = 4}}) {
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

// More rows than a core's cache holds at a time.
TEST(OnednnLayers, WeightGradientsOfLargePictures) {
  const Conv2d layer{.out = 12, .kernel_h = 3, .kernel_w = 3, .stride = 2, .pad_h = 1, .pad_w = 1};
  expect_same_training(make_net(150, 3,
                                [&](Net& net) {
                                  Node x = net.conv2d(net.input(), "a", {.out = 9});
                                  x = net.conv2d(net.relu(x), "b", layer);
                                  net.loss(classify(net, x));
                                }),
                       2);
}

// Wide enough for Winograd; tiles that fill the picture and that hang over its edge, an odd number
// of channel blocks, more tiles than are worked on at a time.
TEST(OnednnLayers, WideConvolutionsOfThreeByThree) {
  const auto net = [](int size, int pad, int channels, bool bias) {
    const Conv2d layer{
        .out = channels, .kernel_h = 3, .kernel_w = 3, .pad_h = pad, .pad_w = pad, .bias = bias};
    return make_net(size, 4, [=](Net& n) {
      Node x = n.relu(n.conv2d(n.input(), "a", {.out = 33}));
      x = n.conv2d(n.relu(n.conv2d(x, "b", layer)), "c", layer);
      n.loss(classify(n, x));
    });
  };
  expect_same_training(net(16, 1, 40, false), 2);
  expect_same_training(net(14, 1, 33, true), 3);
  expect_same_training(net(18, 0, 33, false), 2);
  expect_same_training(net(14, 2, 32, true), 2);
  expect_same_training(net(24, 1, 33, false), 3);
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

TEST(OnednnLayers, AdaptivePoolWithUnequalWindows) {
  for (const int out : {3, 4}) {
    const auto net = make_net(14, 5, [&](Net& n) {
      const Node x = n.conv2d(n.input(), "a", {.out = 18, .bias = true});
      n.loss(n.linear(n.flatten(n.adaptive_average_pool(x, {out})), "fc", {5}));
    });
    expect_same_training(net, 1);
    expect_same_training(net, 4);
  }
}

TEST(OnednnLayers, ResponseNorm) {
  for (const LocalResponseNorm layer :
       {LocalResponseNorm{.size = 9, .alpha = 0.5}, LocalResponseNorm{.size = 5, .alpha = 2},
        LocalResponseNorm{.size = 4, .alpha = 1, .beta = 0.5, .k = 2}}) {
    for (const int channels : {64, 20}) {
      SCOPED_TRACE(channels);
      expect_same_training(make_net(9, 5,
                                    [&](Net& n) {
                                      Node x = n.conv2d(n.input(), "a", {.out = channels});
                                      x = n.local_response_norm(n.relu(x), layer);
                                      n.loss(classify(n, n.conv2d(x, "b", {.out = 16})));
                                    }),
                           3);
    }
  }
}

// Parts that are written in place (whole blocks after a batch norm), that are copied, that do not
// fill blocks, and that others read too.
TEST(OnednnLayers, Concat) {
  const auto norm = [](Net& n, Node x, const std::string& name, int channels) {
    return n.relu(n.batch_norm(n.conv2d(x, name, {.out = channels}), name + "_bn"));
  };
  for (const int channels : {16, 32, 12}) {
    for (const char* fusion : {"", "none"}) {
      SCOPED_TRACE(channels);
      const auto net = make_net(8, 5, [&](Net& n) {
        const Node x = norm(n, n.input(), "stem", 16);
        const Node also_read = norm(n, x, "b", 16);
        Node y = n.concat({norm(n, x, "a", channels), also_read, n.max_pool(x, {3, 1, 1}),
                           n.relu(n.conv2d(x, "c", {.out = channels})),
                           n.batch_norm(n.conv2d(x, "d", {.out = channels}), "d_bn")});
        y = n.concat({norm(n, y, "e", channels), norm(n, also_read, "f", 48), y});
        n.loss(classify(n, n.conv2d(y, "last", {.out = 16})));
      });
      expect_same_training(net, 1, fusion, 5e-4);
      expect_same_training(net, 4, fusion, 5e-4);
    }
  }
}

// Four readers of one concat, as in an inception block, and the input among the parts.
TEST(OnednnLayers, ConcatWithManyReadersAndTheInput) {
  const auto net = make_net(8, 5, [](Net& n) {
    const Node x = n.concat({n.conv2d(n.input(), "a", {.out = 16}), n.input()});
    const Node y = n.concat({n.conv2d(x, "b", {.out = 16}), n.conv2d(x, "c", {.out = 16}),
                             n.average_pool(x, {3, 1, 1}), n.conv2d(x, "d", {.out = 8})});
    n.loss(classify(n, y));
  });
  expect_same_training(net, 2);
}

TEST(OnednnLayers, DropoutDropsAboutItsShareAndScalesTheRest) {
  constexpr int kBatch = 64, kWidth = 192;
  const auto net = make_net(
      8, 2, [](Net& n) { n.loss(n.linear(n.dropout(n.flatten(n.input()), 0.25), "fc", {2})); });
  ASSERT_EQ(net.nodes()[0].shape.elements(), kWidth);
  PlanOptions options;
  options.batch = kBatch;
  options.threads = 2;
  const auto plan = make_onednn_backend()->compile(net, options);
  // Weights of the first logit see one element each, so logits and gradients show the mask.
  std::vector<float> weights(2 * kWidth, 0.0F);
  const std::vector<float> ones(static_cast<std::size_t>(kBatch * kWidth), 1.0F);
  const std::vector<std::int32_t> labels(kBatch, 0);
  std::fill_n(weights.begin(), kWidth, 1.0F / kWidth);
  plan->write_parameter(0, weights);
  plan->write_parameter(1, std::vector<float>{0, 0});
  const auto kept_share = [&] {
    plan->forward({ones, labels});
    double sum = 0;
    const auto logits = plan->logits();
    for (int n = 0; n < kBatch; ++n) sum += logits[2 * n];
    return sum / kBatch * 0.75;  // the mean of y is 1 when the kept are scaled by 1 / 0.75
  };
  const double first = kept_share();
  EXPECT_NEAR(first, 0.75, 0.02);
  // dL/dw[0][i] = sum over images of y[n][i] * g[n]: the forward pass's own mask, again.
  plan->backward();
  const auto gradient = plan->read_gradient(0);
  const auto logits = plan->logits();
  double expected = 0, got = 0;
  for (int n = 0; n < kBatch; ++n)
    expected += logits[2 * n] * kWidth * (-1 / (1 + std::exp(logits[2 * n]))) / kBatch;
  for (int i = 0; i < kWidth; ++i) got += gradient[i];
  EXPECT_NEAR(got, expected, 1e-4 * std::abs(expected));
  EXPECT_NE(kept_share(), first) << "the next pass has another mask";
  plan->evaluate({ones, labels});
  EXPECT_NEAR(plan->logits()[0], 1.0, 1e-5) << "evaluation keeps everything";
}

// Backward makes the mask of its forward pass once more: dx is 0 exactly where y was.
TEST(OnednnLayers, DropoutGradientHasTheSameMask) {
  const auto net = make_net(8, 2, [](Net& n) {
    const Node x = n.conv2d(n.input(), "a", {.out = 16, .bias = true});
    n.loss(n.linear(n.flatten(n.dropout(x, 0.5)), "fc", {2}));
  });
  PlanOptions options;
  options.batch = 1;
  options.threads = 2;
  const auto plan = make_onednn_backend()->compile(net, options);
  fill(*plan);
  const Data data = make_data(net, 1);
  plan->forward(data.batch());
  plan->backward();
  const auto logits = plan->logits();
  const double top = 1 / (1 + std::exp(logits[0] - logits[1])) - (data.labels[0] == 1 ? 1 : 0);
  // fc's gradient is y * g, so it tells the mask; the bias gradient of a channel is the sum of
  // dx = 2 * mask * (w1 - w0) * g over its pixels.
  const auto fc = plan->read_gradient(2), bias = plan->read_gradient(1);
  const auto weights = plan->read_parameter(2);
  for (int c = 0; c < 16; ++c) {
    double want = 0;
    for (int p = 0; p < 64; ++p) {
      const int i = c * 64 + p;
      if (fc[1024 + i] != 0) want += 2 * (weights[1024 + i] - weights[i]) * top;
    }
    EXPECT_NEAR(bias[c], want, 1e-5) << c;
  }
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

// A broken run must not look well: no ReLU, pool or norm turns NaN into a number.
TEST(OnednnLayers, WhatIsNoNumberReachesTheLoss) {
  const Net net = make_net(19, 4, [](Net& n) {
    const Conv2d three{.out = 36, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
    const Node x = n.relu(n.batch_norm(n.conv2d(n.input(), "a", {.out = 36}), "bn"));
    Node y = n.max_pool(n.relu(n.conv2d(n.max_pool(x, {3, 1, 1}), "b", three)), {2, 2, 0});
    y = n.relu(n.batch_norm(n.conv2d(y, "c", three), "bn2"));
    y = n.relu(n.add(n.batch_norm(n.conv2d(y, "d", {.out = 36}), "bn3"), y));
    n.loss(classify(n, y));
  });
  const Data data = make_data(net, 2);
  for (const char* precision : {"fp32", "bf16"}) {
    const auto plan = onednn_plan(net, 2, "", 2, {}, precision);
    for (std::size_t i = 0; i < net.parameters().size(); ++i) {
      const Parameter& parameter = net.parameters()[i];
      const auto values = initial_value(parameter, 1);
      auto broken = values;
      broken.back() = std::numeric_limits<float>::quiet_NaN();
      plan->write_parameter(static_cast<int>(i), broken);
      EXPECT_TRUE(std::isnan(plan->forward(data.batch()))) << parameter.name << " " << precision;
      plan->write_parameter(static_cast<int>(i), values);
      EXPECT_FALSE(std::isnan(plan->forward(data.batch()))) << parameter.name << " " << precision;
    }
  }
}

TEST(OnednnLayers, SigmoidAndTwoHeads) {
  expect_same_training(one_logit_net(), 4);
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
