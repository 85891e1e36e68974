#include "worker/backend/cuda/kernels/device_runner.cuh"
#include "worker/backend/cuda/kernels/device_tables.hpp"
#include "worker/backend/cuda/kernels/integers.hpp"

namespace rackmark::worker::cuda {

void add_device_integer_kernels(Type type, Kernels& kernels) {
  if (type == Type::kInteger) return bodies::add_integer_kernels<bodies::Device>(kernels);
  bodies::by_type(type, [&](auto value) {
    kernels.to_integers = bodies::to_integers<decltype(value), bodies::Device>;
  });
}

}  // namespace rackmark::worker::cuda
