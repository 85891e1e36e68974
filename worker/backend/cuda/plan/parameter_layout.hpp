// In which order a plan keeps the elements of a parameter.
//
// Convolution weights lie as (out, kernel_h, kernel_w, in), as NHWC kernels read them, with zeros
// where the input has more channels in memory than in the net. Weights of a linear layer that reads
// a flattened picture follow the picture's order in memory (height, width, channel) instead of
// torchvision's (channel, height, width). Everything else lies as it is. All are float32.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/net/net.hpp"

namespace rackmark::worker::cuda {

struct ParameterLayout {
  std::int64_t out = 1;                 // slowest in both orders
  std::int64_t channels = 1, area = 1;  // elements of one `out` in torchvision's order
  std::int64_t stored_channels = 1;     // elements of one place of the area in memory

  std::int64_t elements() const { return out * channels * area; }
  std::int64_t stored() const { return out * area * stored_channels; }
  std::vector<float> to_memory(std::span<const float> values) const;
  std::vector<double> from_memory(std::span<const float> stored) const;
  std::string text() const;  // equal texts, equal orders
};

ParameterLayout plain_layout(const Parameter& parameter);
ParameterLayout convolution_layout(const Parameter& weight, std::int64_t stored_channels);
// `order`: the picture whose elements the layer's inputs are; {n, 1, 1} for plain ones.
ParameterLayout linear_layout(const Parameter& weight, const Shape& order);

}  // namespace rackmark::worker::cuda
