#include "worker/backend/cuda/kernels/device_tables.hpp"

namespace rackmark::worker::cuda {
namespace {

Kernels make_device_kernels(Type type) {
  Kernels kernels{};
  add_device_norm_kernels(type, kernels);
  add_device_elementwise_kernels(type, kernels);
  add_device_window_kernels(type, kernels);
  add_device_optimizer_kernels(type, kernels);
  return kernels;
}

}  // namespace

const Kernels& device_kernels(Type type) {
  static const Kernels kFloats = make_device_kernels(Type::kFloat);
  static const Kernels kHalves = make_device_kernels(Type::kHalf);
  static const Kernels kBfloats = make_device_kernels(Type::kBfloat);
  return type == Type::kFloat ? kFloats : type == Type::kHalf ? kHalves : kBfloats;
}

}  // namespace rackmark::worker::cuda
