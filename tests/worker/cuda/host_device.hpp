// A device that computes on the host: plain loops for convolutions and products, the engine's own
// kernels compiled for the host. Everything above the device interface runs on it as it does on a
// GPU. Memory is malloc's, a buffer each, so that the address sanitizer sees what leaves a region.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda::test {

// `memory_bytes`: what it pretends to have. `has_groups`: whether such devices of this process can
// exchange values among themselves, each in a thread of its own.
std::unique_ptr<Device> make_host_device(std::int64_t memory_bytes = std::int64_t{4} << 30,
                                         bool has_groups = false);

}  // namespace rackmark::worker::cuda::test
