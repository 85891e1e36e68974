// What integers must hold: ranges of values, seen on calibration pictures.
#pragma once

#include <vector>

#include "worker/backend/onednn/inference/integers.hpp"
#include "worker/backend/onednn/inference/program.hpp"

namespace rackmark::worker::onednn {

// Runs a float program on every batch of `batches` twice: for the largest magnitude of each value,
// then for its distribution. A value's peak is the one with the least mean squared error of
// rounding and clipping together: often the largest magnitude, less where a few outliers would make
// all steps coarse. 0 for a value that was always zero, or that no step makes (it lies in another
// one). Call in a ComputeScope.
Peaks find_peaks(Program& program, std::size_t values,
                 const std::vector<std::vector<float>>& batches);

// The error-optimal peak of magnitudes counted in bins of equal width up to `largest`, for integers
// of `steps` steps from 0 to the peak. For tests too.
float best_peak(const std::vector<double>& counts, float largest, int steps);

}  // namespace rackmark::worker::onednn
