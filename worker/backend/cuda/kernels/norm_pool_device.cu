#include "worker/backend/cuda/kernels/device_runner.cuh"
#include "worker/backend/cuda/kernels/device_tables.hpp"
#include "worker/backend/cuda/kernels/norm_pool.hpp"

namespace rackmark::worker::cuda {

void add_device_norm_pool_kernels(Type type, Kernels& kernels) {
  bodies::by_type(type, [&](auto value) {
    bodies::add_norm_pool_kernels<decltype(value), bodies::Device>(kernels);
  });
}

}  // namespace rackmark::worker::cuda
