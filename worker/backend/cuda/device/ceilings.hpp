// What the GPU can do at most, measured now with products and copies of the device interface.
#pragma once

#include <cstdint>
#include <string>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

// Of several runs, in the unit that is said beside it.
struct Rates {
  double best = 0, median = 0, worst = 0;
  std::int64_t runs = 0;
};
struct ProductRate {
  Rates gflops;                      // a multiply-add is 2
  std::string what, implementation;  // "8192 x 8192 x 8192"
};
// The fastest of some large products of random values, within about `seconds` (at least one of
// each is timed); those without room in memory are left out. Results are of the stored type. Throws
// OutOfMemory when there was room for none.
ProductRate fastest_product(Device& device, Type type, Arithmetic arithmetic, double seconds);

// GB/s (1e9) of reading and writing together: values of `bytes` copied by the own kernel within
// the device's memory. Throws OutOfMemory (it takes twice `bytes`).
Rates copy_rate(Device& device, std::int64_t bytes, double seconds);

}  // namespace rackmark::worker::cuda
