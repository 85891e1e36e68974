// ResNet-50 v1.5 (He et al. 2015, with the stride in the 3x3 convolution of a block's first unit).
#include "worker/models/blocks.hpp"

namespace rackmark::worker {
namespace {

// 1x1 reduce, 3x3, 1x1 expand, around a shortcut that is projected where the shape changes.
Node bottleneck(Net& net, Node x, const std::string& name, int width, int stride) {
  const auto conv_bn = [&](Node in, const char* conv_name, const char* bn_name, Conv2d layer) {
    return net.batch_norm(net.conv2d(in, name + conv_name, layer), name + bn_name);
  };
  Node y = net.relu(conv_bn(x, ".conv1", ".bn1", square(width, 1)));
  y = net.relu(conv_bn(y, ".conv2", ".bn2", square(width, 3, stride, 1)));
  y = conv_bn(y, ".conv3", ".bn3", square(4 * width, 1));
  const bool same = net.shape(x) == net.shape(y);
  const Node skip =
      same ? x : conv_bn(x, ".downsample.0", ".downsample.1", square(4 * width, 1, stride));
  return net.relu(net.add(y, skip));
}

}  // namespace

void build_resnet50(Net& net) {
  Node x = net.relu(net.batch_norm(net.conv2d(net.input(), "conv1", square(64, 7, 2, 3)), "bn1"));
  x = net.max_pool(x, {.kernel = 3, .stride = 2, .pad = 1});
  constexpr int kUnits[] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage) {
    for (int unit = 0; unit < kUnits[stage]; ++unit) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(unit);
      x = bottleneck(net, x, name, 64 << stage, unit == 0 && stage > 0 ? 2 : 1);
    }
  }
  x = net.flatten(net.adaptive_average_pool(x, {.out = 1}));
  net.loss(net.linear(x, "fc", {.out = net.classes()}));
}

}  // namespace rackmark::worker
