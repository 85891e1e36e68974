// Inception v3 as torchvision defines it (Szegedy et al. 2015), with one auxiliary head that counts
// 0.4. At 299 pixels that head's last batch norm sees 1x1, so training needs a batch of at least 2.
#include "worker/models/blocks.hpp"

namespace rackmark::worker {
namespace {

constexpr MaxPool kHalve{.kernel = 3, .stride = 2};
constexpr AveragePool kSmooth{.kernel = 3, .stride = 1, .pad = 1};

// Adds units to one block, "<block>.<branch>".
class Block {
 public:
  Block(Net& net, std::string name) : net_(net), name_(std::move(name)) {}
  Node operator()(Node x, const char* branch, Conv2d layer) const {
    return basic_conv(net_, x, name_ + "." + branch, layer);
  }

 private:
  Net& net_;
  std::string name_;
};

Node block_a(Net& net, Node x, const std::string& name, int pool_width) {  // 35 x 35
  const Block conv(net, name);
  const Node one = conv(x, "branch1x1", square(64, 1));
  const Node five = conv(conv(x, "branch5x5_1", square(48, 1)), "branch5x5_2", same(64, 5, 5));
  Node three = conv(conv(x, "branch3x3dbl_1", square(64, 1)), "branch3x3dbl_2", same(96, 3, 3));
  three = conv(three, "branch3x3dbl_3", same(96, 3, 3));
  const Node pool = conv(net.average_pool(x, kSmooth), "branch_pool", square(pool_width, 1));
  return net.concat({one, five, three, pool});
}

Node block_b(Net& net, Node x, const std::string& name) {  // 35 x 35 to 17 x 17
  const Block conv(net, name);
  const Node three = conv(x, "branch3x3", square(384, 3, 2));
  Node twice = conv(conv(x, "branch3x3dbl_1", square(64, 1)), "branch3x3dbl_2", same(96, 3, 3));
  twice = conv(twice, "branch3x3dbl_3", square(96, 3, 2));
  return net.concat({three, twice, net.max_pool(x, kHalve)});
}

Node block_c(Net& net, Node x, const std::string& name, int width) {  // 17 x 17
  const Block conv(net, name);
  const Node one = conv(x, "branch1x1", square(192, 1));
  Node seven = conv(conv(x, "branch7x7_1", square(width, 1)), "branch7x7_2", same(width, 1, 7));
  seven = conv(seven, "branch7x7_3", same(192, 7, 1));
  Node twice =
      conv(conv(x, "branch7x7dbl_1", square(width, 1)), "branch7x7dbl_2", same(width, 7, 1));
  twice =
      conv(conv(twice, "branch7x7dbl_3", same(width, 1, 7)), "branch7x7dbl_4", same(width, 7, 1));
  twice = conv(twice, "branch7x7dbl_5", same(192, 1, 7));
  const Node pool = conv(net.average_pool(x, kSmooth), "branch_pool", square(192, 1));
  return net.concat({one, seven, twice, pool});
}

Node block_d(Net& net, Node x, const std::string& name) {  // 17 x 17 to 8 x 8
  const Block conv(net, name);
  const Node three = conv(conv(x, "branch3x3_1", square(192, 1)), "branch3x3_2", square(320, 3, 2));
  Node seven = conv(conv(x, "branch7x7x3_1", square(192, 1)), "branch7x7x3_2", same(192, 1, 7));
  seven = conv(conv(seven, "branch7x7x3_3", same(192, 7, 1)), "branch7x7x3_4", square(192, 3, 2));
  return net.concat({three, seven, net.max_pool(x, kHalve)});
}

Node block_e(Net& net, Node x, const std::string& name) {  // 8 x 8
  const Block conv(net, name);
  const Node one = conv(x, "branch1x1", square(320, 1));
  const Node three = conv(x, "branch3x3_1", square(384, 1));
  const Node three_wide = conv(three, "branch3x3_2a", same(384, 1, 3));
  const Node three_high = conv(three, "branch3x3_2b", same(384, 3, 1));
  const Node twice =
      conv(conv(x, "branch3x3dbl_1", square(448, 1)), "branch3x3dbl_2", same(384, 3, 3));
  const Node twice_wide = conv(twice, "branch3x3dbl_3a", same(384, 1, 3));
  const Node twice_high = conv(twice, "branch3x3dbl_3b", same(384, 3, 1));
  const Node pool = conv(net.average_pool(x, kSmooth), "branch_pool", square(192, 1));
  return net.concat({one, three_wide, three_high, twice_wide, twice_high, pool});
}

Node auxiliary(Net& net, Node x) {
  const Block conv(net, "AuxLogits");
  x = conv(net.average_pool(x, {.kernel = 5, .stride = 3}), "conv0", square(128, 1));
  x = net.adaptive_average_pool(conv(x, "conv1", square(768, 5)), {.out = 1});
  return net.linear(net.flatten(x), "AuxLogits.fc", {.out = net.classes()});
}

}  // namespace

void build_inception_v3(Net& net) {
  Node x = basic_conv(net, net.input(), "Conv2d_1a_3x3", square(32, 3, 2));
  x = basic_conv(net, x, "Conv2d_2a_3x3", square(32, 3));
  x = net.max_pool(basic_conv(net, x, "Conv2d_2b_3x3", same(64, 3, 3)), kHalve);
  x = basic_conv(net, x, "Conv2d_3b_1x1", square(80, 1));
  x = net.max_pool(basic_conv(net, x, "Conv2d_4a_3x3", square(192, 3)), kHalve);
  x = block_a(net, x, "Mixed_5b", 32);
  x = block_a(net, x, "Mixed_5c", 64);
  x = block_b(net, block_a(net, x, "Mixed_5d", 64), "Mixed_6a");
  x = block_c(net, x, "Mixed_6b", 128);
  x = block_c(net, x, "Mixed_6c", 160);
  x = block_c(net, x, "Mixed_6d", 160);
  x = block_c(net, x, "Mixed_6e", 192);
  const Node auxiliary_logits = auxiliary(net, x);
  x = block_d(net, x, "Mixed_7a");
  x = block_e(net, block_e(net, x, "Mixed_7b"), "Mixed_7c");
  x = net.dropout(net.flatten(net.adaptive_average_pool(x, {.out = 1})), 0.5);
  net.loss(net.linear(x, "fc", {.out = net.classes()}));
  net.loss(auxiliary_logits, 0.4);
}

}  // namespace rackmark::worker
