// How long the own kernels of a batch norm take: what engines that do their work are compared with.
// Each is timed once for a shape, as engines are, and remembered.
#pragma once

#include <optional>

#include "worker/backend/cuda/device/device.hpp"
#include "worker/backend/cuda/plan/assembly.hpp"

namespace rackmark::worker::cuda {

// Milliseconds over a value like `x`; nullopt: no memory to try it in.
std::optional<double> norm_sums_ms(Device& device, const Place& x);
std::optional<double> norm_apply_ms(Device& device, const Place& x);          // with ReLU and mask
std::optional<double> norm_backward_sums_ms(Device& device, const Place& x);  // with a mask

}  // namespace rackmark::worker::cuda
