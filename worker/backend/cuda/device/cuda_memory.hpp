// Memory of the GPU and memory of the host that it reads.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

// As it comes. Throws OutOfMemory with the bytes that were free.
std::shared_ptr<std::byte> device_memory(std::int64_t bytes);
// Of random_values().
std::shared_ptr<std::byte> random_memory(Type type, std::int64_t bytes, cudaStream_t stream);
// Zeroed. Throws OutOfMemory with the bytes that the host has free.
std::shared_ptr<std::byte> pinned_memory(std::int64_t bytes);

}  // namespace rackmark::worker::cuda
