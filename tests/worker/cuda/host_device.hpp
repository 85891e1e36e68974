// A device that computes on the host: plain loops for convolutions and products, the engine's own
// kernels compiled for the host. Everything above the device interface runs on it as it does on a
// GPU. Memory is malloc's, a buffer each, so that the address sanitizer sees what leaves a region.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda::test {

// What it pretends.
struct HostDeviceOptions {
  std::int64_t memory_bytes = std::int64_t{4} << 30;
  // Such devices of this process can exchange values among themselves, each in a thread of its own.
  bool has_groups = false;
  // How long its engines take; none: they were not timed.
  std::function<std::optional<double>(const ConvolutionTask&)> convolution_ms;
  std::function<bool(const ConvolutionTask&)> refuses;  // it has no engine for these; none: for all
  // Recordings and copies run when the device is waited for, or for a kernel's or a mark's sake:
  // calls that give a GPU work return before it has run.
  bool runs_late = true;
};
std::unique_ptr<Device> make_host_device(const HostDeviceOptions& options = {});

}  // namespace rackmark::worker::cuda::test
