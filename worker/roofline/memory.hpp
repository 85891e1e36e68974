// Memory bandwidth of this host, without any library.
#pragma once

#include <vector>

#include "worker/backend/ceilings.hpp"

namespace rackmark::worker {

// "memory": copy (2 x 4 bytes an element) and triad (3 x 4 bytes) of floats as STREAM counts them,
// that is without the read that an ordinary store causes; streaming stores where the CPU has them.
// Each array is four times the last-level cache, at least 64 MiB, less where memory is short.
// "cache": reading half of each level, all threads at once.
// `cpus`: one thread is pinned to each; not empty.
std::vector<Ceiling> measure_memory(const std::vector<int>& cpus);

}  // namespace rackmark::worker
