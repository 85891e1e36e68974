// Three classifiers of two kinds of pictures, with one logit and binary cross entropy: `original`
// takes 64x64 pictures, `improved` 128x128, `deep` is `improved` with 30 more convolutions.
#include <initializer_list>

#include "worker/models/blocks.hpp"

namespace rackmark::worker {
namespace {

void build(Net& net, std::initializer_list<int> widths, int extra_convolutions, double dropout) {
  net.set_loss_kind(LossKind::kSigmoidCrossEntropy);
  Node x = net.input();
  int index = 0;
  for (const int width : widths) {
    const std::string name = "features." + std::to_string(index++);
    x = net.max_pool(net.relu(net.conv2d(x, name, with_bias(square(width, 3)))), {});
  }
  for (int i = 0; i < extra_convolutions; ++i) {
    x = net.relu(net.conv2d(x, "extra." + std::to_string(i), with_bias(same(64, 3, 3))));
  }
  x = net.relu(net.linear(net.flatten(x), "fc1", {.out = 128}));
  if (dropout > 0) x = net.dropout(x, dropout);
  net.loss(net.linear(x, "fc2", {.out = 1}));
}

}  // namespace

void build_catsdogs_original(Net& net) { build(net, {32}, 0, 0); }
void build_catsdogs_improved(Net& net) { build(net, {64, 64, 64}, 0, 0.5); }
void build_catsdogs_deep(Net& net) { build(net, {64, 64, 64}, 30, 0.5); }

}  // namespace rackmark::worker
