// The network of TensorFlow's CIFAR-10 tutorial: 24x24 crops, local response normalisation.
#include "worker/models/blocks.hpp"

namespace rackmark::worker {

void build_cifar10(Net& net) {
  const MaxPool pool{.kernel = 3, .stride = 2, .pad = 1};
  const LocalResponseNorm norm{.size = 9, .alpha = 0.001, .beta = 0.75, .k = 1};
  Node x = net.relu(net.conv2d(net.input(), "conv1", with_bias(same(64, 5, 5))));
  x = net.local_response_norm(net.max_pool(x, pool), norm);
  x = net.relu(net.conv2d(x, "conv2", with_bias(same(64, 5, 5))));
  x = net.flatten(net.max_pool(net.local_response_norm(x, norm), pool));
  x = net.relu(net.linear(x, "fc1", {.out = 384}));
  x = net.relu(net.linear(x, "fc2", {.out = 192}));
  net.loss(net.linear(x, "fc3", {.out = net.classes()}));
}

}  // namespace rackmark::worker
