#include "worker/backend/cuda/plan/parameter_layout.hpp"

namespace rackmark::worker::cuda {
namespace {

// visit(index in torchvision's order, index in memory) for every element.
template <class Visit>
void for_each_element(const ParameterLayout& layout, const Visit& visit) {
  for (std::int64_t o = 0; o < layout.out; ++o) {
    for (std::int64_t c = 0; c < layout.channels; ++c) {
      for (std::int64_t a = 0; a < layout.area; ++a) {
        visit((o * layout.channels + c) * layout.area + a,
              (o * layout.area + a) * layout.stored_channels + c);
      }
    }
  }
}

}  // namespace

std::vector<float> ParameterLayout::to_memory(std::span<const float> values) const {
  std::vector<float> memory(static_cast<std::size_t>(stored()), 0.0F);
  for_each_element(*this, [&](std::int64_t plain, std::int64_t at) { memory[at] = values[plain]; });
  return memory;
}

std::vector<double> ParameterLayout::from_memory(std::span<const float> memory) const {
  std::vector<double> values(static_cast<std::size_t>(elements()));
  for_each_element(*this, [&](std::int64_t plain, std::int64_t at) { values[plain] = memory[at]; });
  return values;
}

std::string ParameterLayout::text() const {
  return std::to_string(out) + "x" + std::to_string(area) + "x" + std::to_string(stored_channels);
}

ParameterLayout plain_layout(const Parameter& parameter) { return {.out = parameter.elements()}; }

ParameterLayout convolution_layout(const Parameter& weight, std::int64_t stored_channels) {
  return {.out = weight.dims[0],
          .channels = weight.dims[1],
          .area = weight.dims[2] * weight.dims[3],
          .stored_channels = stored_channels};
}

ParameterLayout linear_layout(const Parameter& weight, const Shape& order) {
  return {.out = weight.dims[0],
          .channels = order.channels,
          .area = std::int64_t{order.height} * order.width,
          .stored_channels = order.channels};
}

}  // namespace rackmark::worker::cuda
