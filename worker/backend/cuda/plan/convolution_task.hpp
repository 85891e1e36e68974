// What a convolution layer asks of a device.
#pragma once

#include <cstdint>

#include "worker/backend/cuda/device/device.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::cuda {

// Tensor cores read 16 bytes of channels at a time: what the first layer's pictures are padded to.
inline int padded_channels(int channels, Type type) {
  const int group = static_cast<int>(16 / width(type));
  return (channels + group - 1) / group * group;
}

struct ConvolutionInput {
  int images = 0;
  Shape shape;
  int channels = 0;  // as they lie in memory: those of the first layer are padded
};

// The forward pass. x_stride, y_stride: values from one pixel to the next.
inline ConvolutionTask convolution_task(const Conv2d& layer, const ConvolutionInput& x, Type type,
                                        Arithmetic arithmetic, std::int64_t x_stride,
                                        std::int64_t y_stride) {
  return {.type = type,
          .arithmetic = arithmetic,
          .images = x.images,
          .channels = x.channels,
          .height = x.shape.height,
          .width = x.shape.width,
          .out = layer.out,
          .kernel_h = layer.kernel_h,
          .kernel_w = layer.kernel_w,
          .stride = layer.stride,
          .pad_h = layer.pad_h,
          .pad_w = layer.pad_w,
          .x_stride = x_stride,
          .y_stride = y_stride};
}

}  // namespace rackmark::worker::cuda
