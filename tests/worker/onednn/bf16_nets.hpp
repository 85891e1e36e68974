// What the tests of training in bf16 share.
#pragma once

#include <memory>
#include <string>

#include "tests/worker/onednn/compare.hpp"

namespace rackmark::worker::test {

inline std::unique_ptr<TrainPlan> plan_in(const std::string& precision, const Net& net, int batch) {
  return onednn_plan(net, batch, "", 2, {}, precision);
}

inline Net residual_blocks() {
  return make_net(24, 10, [](Net& n) {
    const auto norm = [&](Node x, const std::string& name, int stride = 1) {
      const Conv2d layer{
          .out = 32, .kernel_h = 3, .kernel_w = 3, .stride = stride, .pad_h = 1, .pad_w = 1};
      return n.batch_norm(n.conv2d(x, name, layer), name + "_bn");
    };
    Node x = n.relu(norm(n.input(), "stem", 2));
    for (const std::string name : {"a", "b", "c"})
      x = n.relu(n.add(norm(n.relu(norm(x, name + "1")), name + "2"), x));
    n.loss(n.linear(n.flatten(n.adaptive_average_pool(x, {1})), "fc", {10}));
  });
}

}  // namespace rackmark::worker::test
