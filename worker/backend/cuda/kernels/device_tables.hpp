// The device's kernels, in files that two cores compile side by side.
#pragma once

#include "worker/backend/cuda/kernels/kernels.hpp"

namespace rackmark::worker::cuda {

void add_device_norm_kernels(Type type, Kernels& kernels);
void add_device_norm_pool_kernels(Type type, Kernels& kernels);
void add_device_elementwise_kernels(Type type, Kernels& kernels);
void add_device_window_kernels(Type type, Kernels& kernels);     // pools, response norm
void add_device_optimizer_kernels(Type type, Kernels& kernels);  // and the loss
void add_device_integer_kernels(Type type, Kernels& kernels);    // theirs, or those that make them

}  // namespace rackmark::worker::cuda
