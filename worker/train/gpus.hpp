// Which GPU this rank computes on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/train/cpus.hpp"

namespace rackmark::worker {

// The GPUs that this process may use: those of the host that CUDA_VISIBLE_DEVICES leaves.
struct VisibleGpus {
  std::vector<std::string> names;  // UUIDs, or indices where the driver says none
  std::string cut_short;           // why there are no more, where there is more to say than that
};
VisibleGpus visible_gpus();

// Leaves this worker its own of `gpus`, `each` of them in the order of the host's workers: sets
// CUDA_VISIBLE_DEVICES. Call before any thread and any backend. False: there is none left for it.
bool take_gpus(const std::vector<std::string>& gpus, const HostRanks& ranks, std::int64_t each);

}  // namespace rackmark::worker
