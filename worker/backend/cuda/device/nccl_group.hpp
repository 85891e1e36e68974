// Groups of GPUs that exchange through NCCL, which is loaded when the first group is made: a host
// with one GPU needs none.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

bool has_nccl();  // it can be loaded
std::string new_nccl_group();
// Blocks until all ranks have joined. `queue` is the device's. Throws std::runtime_error.
std::unique_ptr<Collective> join_nccl_group(const std::string& name, int rank, int size,
                                            cudaStream_t queue);

}  // namespace rackmark::worker::cuda
