// AlexNet as torchvision defines it (Krizhevsky 2014, one column, without response normalisation).
#include "worker/models/blocks.hpp"

namespace rackmark::worker {

void build_alexnet(Net& net) {
  const auto conv = [&](Node x, const char* name, Conv2d layer) {
    return net.relu(net.conv2d(x, name, with_bias(layer)));
  };
  const MaxPool pool{.kernel = 3, .stride = 2};
  Node x = net.max_pool(conv(net.input(), "features.0", square(64, 11, 4, 2)), pool);
  x = net.max_pool(conv(x, "features.3", same(192, 5, 5)), pool);
  x = conv(x, "features.6", same(384, 3, 3));
  x = conv(x, "features.8", same(256, 3, 3));
  x = net.max_pool(conv(x, "features.10", same(256, 3, 3)), pool);
  x = net.flatten(net.adaptive_average_pool(x, {.out = 6}));
  x = net.relu(net.linear(net.dropout(x, 0.5), "classifier.1", {.out = 4096}));
  x = net.relu(net.linear(net.dropout(x, 0.5), "classifier.4", {.out = 4096}));
  net.loss(net.linear(x, "classifier.6", {.out = net.classes()}));
}

}  // namespace rackmark::worker
