// What integers must hold: ranges of values, seen on calibration pictures.
#pragma once

#include <vector>

#include "worker/backend/onednn/inference/integers.hpp"
#include "worker/backend/onednn/inference/program.hpp"

namespace rackmark::worker::onednn {

// Runs a float program on every batch of `batches` twice, see ValueRange. 0 also for a value that
// no step makes (it lies in another one). Call in a ComputeScope.
Peaks find_peaks(Program& program, std::size_t values,
                 const std::vector<std::vector<float>>& batches);

}  // namespace rackmark::worker::onednn
