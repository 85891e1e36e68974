#include "worker/backend/cuda/kernels/device_runner.cuh"
#include "worker/backend/cuda/kernels/device_tables.hpp"
#include "worker/backend/cuda/kernels/loss.hpp"
#include "worker/backend/cuda/kernels/optimizer.hpp"

namespace rackmark::worker::cuda {

void add_device_optimizer_kernels(Type type, Kernels& kernels) {
  bodies::by_type(type, [&](auto value) {
    bodies::add_loss_kernels<decltype(value), bodies::Device>(kernels);
    bodies::add_optimizer_kernels<decltype(value), bodies::Device>(kernels);
  });
}

}  // namespace rackmark::worker::cuda
