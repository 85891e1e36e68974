// Values of int8 inference, whatever the backend: what they must hold, and which share a step.
#pragma once

#include <span>
#include <vector>

#include "worker/backend/inference_units.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker {

// Largest magnitude that a value's integers hold, by node.
using Peaks = std::vector<float>;

// Whether integers are handed on unchanged: pools, joins and what only looks at them otherwise.
bool keeps_integers(const Net& net, const Unit& unit);

// Values that are handed on unchanged share one step: the widest of them sets the peak of all. A
// peak of 0, of a value that was always zero, becomes 1.
void share_peaks(const Net& net, const std::vector<Unit>& units, Peaks& peaks);

// The magnitudes of one value on calibration pictures, seen twice: see() all, then count() all.
class ValueRange {
 public:
  // False: some are not finite, and no integers hold them.
  bool see(std::span<const float> values);
  void count(std::span<const float> values);
  bool has_negative() const { return negative_; }
  // The peak with the least mean squared error of rounding and clipping together, for integers of
  // `steps` steps from 0 to the peak: often the largest magnitude, less where a few outliers would
  // make all steps coarse. 0 for a value that was always zero.
  float peak(int steps) const;

 private:
  float largest_ = 0;
  bool negative_ = false;
  std::vector<double> counts_;  // in bins of equal width up to the largest
};

}  // namespace rackmark::worker
