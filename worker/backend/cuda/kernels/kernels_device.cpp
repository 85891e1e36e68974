#include <array>

#include "worker/backend/cuda/kernels/device_tables.hpp"

namespace rackmark::worker::cuda {
namespace {

Kernels make_device_kernels(Type type) {
  Kernels kernels{};
  add_device_norm_kernels(type, kernels);
  add_device_norm_pool_kernels(type, kernels);
  add_device_elementwise_kernels(type, kernels);
  add_device_window_kernels(type, kernels);
  add_device_optimizer_kernels(type, kernels);
  add_device_integer_kernels(type, kernels);
  return kernels;
}

}  // namespace

const Kernels& device_kernels(Type type) {
  static const std::array kTables{
      make_device_kernels(Type::kFloat), make_device_kernels(Type::kHalf),
      make_device_kernels(Type::kBfloat), make_device_kernels(Type::kInteger)};
  return kTables[static_cast<std::size_t>(type)];
}

}  // namespace rackmark::worker::cuda
