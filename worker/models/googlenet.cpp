// GoogLeNet as torchvision defines it (Szegedy et al. 2014, with batch norm): the "5x5" branches
// are 3x3, pools round up, and two auxiliary heads count 0.3 each.
#include "worker/models/blocks.hpp"

namespace rackmark::worker {
namespace {

struct Widths {  // output channels of one inception block
  int one, three_reduce, three, five_reduce, five, pool;
};

Node inception(Net& net, Node x, const std::string& name, const Widths& w) {
  const auto conv = [&](Node in, const char* branch, Conv2d layer) {
    return basic_conv(net, in, name + branch, layer);
  };
  const Node one = conv(x, ".branch1", square(w.one, 1));
  const Node three =
      conv(conv(x, ".branch2.0", square(w.three_reduce, 1)), ".branch2.1", same(w.three, 3, 3));
  const Node five =
      conv(conv(x, ".branch3.0", square(w.five_reduce, 1)), ".branch3.1", same(w.five, 3, 3));
  const Node pooled = net.max_pool(x, {.kernel = 3, .stride = 1, .pad = 1, .ceil_mode = true});
  return net.concat({one, three, five, conv(pooled, ".branch4.1", square(w.pool, 1))});
}

Node auxiliary(Net& net, Node x, const std::string& name) {
  x = net.adaptive_average_pool(x, {.out = 4});
  x = net.flatten(basic_conv(net, x, name + ".conv", square(128, 1)));
  x = net.dropout(net.relu(net.linear(x, name + ".fc1", {.out = 1024})), 0.7);
  return net.linear(x, name + ".fc2", {.out = net.classes()});
}

}  // namespace

void build_googlenet(Net& net) {
  const MaxPool pool{.kernel = 3, .stride = 2, .ceil_mode = true};
  Node x = net.max_pool(basic_conv(net, net.input(), "conv1", square(64, 7, 2, 3)), pool);
  x = basic_conv(net, x, "conv2", square(64, 1));
  x = net.max_pool(basic_conv(net, x, "conv3", same(192, 3, 3)), pool);
  x = inception(net, x, "inception3a", {64, 96, 128, 16, 32, 32});
  x = inception(net, x, "inception3b", {128, 128, 192, 32, 96, 64});
  x = inception(net, net.max_pool(x, pool), "inception4a", {192, 96, 208, 16, 48, 64});
  const Node first_auxiliary = auxiliary(net, x, "aux1");
  x = inception(net, x, "inception4b", {160, 112, 224, 24, 64, 64});
  x = inception(net, x, "inception4c", {128, 128, 256, 24, 64, 64});
  x = inception(net, x, "inception4d", {112, 144, 288, 32, 64, 64});
  const Node second_auxiliary = auxiliary(net, x, "aux2");
  x = inception(net, x, "inception4e", {256, 160, 320, 32, 128, 128});
  x = net.max_pool(x, {.kernel = 2, .stride = 2, .ceil_mode = true});
  x = inception(net, x, "inception5a", {256, 160, 320, 32, 128, 128});
  x = inception(net, x, "inception5b", {384, 192, 384, 48, 128, 128});
  x = net.dropout(net.flatten(net.adaptive_average_pool(x, {.out = 1})), 0.2);
  net.loss(net.linear(x, "fc", {.out = net.classes()}));
  net.loss(first_auxiliary, 0.3);
  net.loss(second_auxiliary, 0.3);
}

}  // namespace rackmark::worker
