// What this CPU can do at most, through oneDNN: matrix products and typical convolutions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "worker/backend/ceilings.hpp"

namespace rackmark::worker::onednn {

std::vector<Ceiling> measure_ceilings(int threads);  // 0: all of this process's CPUs

// GFLOP/s of the best run of the fastest size found within about `seconds`. Null for a precision
// that this CPU only emulates.
std::optional<double> measure_matrix_peak(const std::string& precision, int threads,
                                          double seconds);

}  // namespace rackmark::worker::onednn
