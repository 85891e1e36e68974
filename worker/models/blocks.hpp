// What several models are made of.
#pragma once

#include <string>

#include "worker/net/net.hpp"

namespace rackmark::worker {

// A square kernel.
inline Conv2d square(int out, int kernel, int stride = 1, int pad = 0) {
  return {.out = out,
          .kernel_h = kernel,
          .kernel_w = kernel,
          .stride = stride,
          .pad_h = pad,
          .pad_w = pad};
}

// A kernel of kernel_h x kernel_w that keeps height and width.
inline Conv2d same(int out, int kernel_h, int kernel_w) {
  return {.out = out,
          .kernel_h = kernel_h,
          .kernel_w = kernel_w,
          .pad_h = kernel_h / 2,
          .pad_w = kernel_w / 2};
}

// torchvision's BasicConv2d, "<name>.conv" and "<name>.bn": GoogLeNet's and Inception's unit.
inline Node basic_conv(Net& net, Node x, const std::string& name, Conv2d layer) {
  return net.relu(
      net.batch_norm(net.conv2d(x, name + ".conv", layer), name + ".bn", {.epsilon = 1e-3}));
}

inline Conv2d with_bias(Conv2d layer) {
  layer.bias = true;
  return layer;
}

}  // namespace rackmark::worker
