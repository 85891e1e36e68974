// Values that a plan writes into the device's memory once.
#pragma once

#include <cstddef>
#include <vector>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

// As `type` stores them; in the queue's order.
void write_values(Device& device, const std::vector<float>& values, Type type, std::byte* to);

}  // namespace rackmark::worker::cuda
