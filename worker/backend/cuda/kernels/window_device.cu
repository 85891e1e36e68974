#include "worker/backend/cuda/kernels/device_runner.cuh"
#include "worker/backend/cuda/kernels/device_tables.hpp"
#include "worker/backend/cuda/kernels/pools.hpp"
#include "worker/backend/cuda/kernels/response_norm.hpp"

namespace rackmark::worker::cuda {

void add_device_window_kernels(Type type, Kernels& kernels) {
  bodies::by_type(type, [&](auto value) {
    bodies::add_pool_kernels<decltype(value), bodies::Device>(kernels);
    bodies::add_response_kernels<decltype(value), bodies::Device>(kernels);
  });
}

}  // namespace rackmark::worker::cuda
