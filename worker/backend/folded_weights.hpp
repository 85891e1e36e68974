// Weights as inference runs them: batch norm folded in.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/inference_units.hpp"

namespace rackmark::worker {

struct Folded {
  std::vector<std::int64_t> dims;  // OIHW, GOIHW with one channel a group, or (out, in)
  std::vector<float> weights;      // row major
  std::vector<float> bias;         // zeros where the layer has none
};

// Weights and bias of a unit's layer with its batch norm folded in, computed in double. A batch
// norm on its own becomes a 1x1 convolution of one channel a group.
Folded fold(const Net& net, const Unit& unit, const TrainedValues& values);

}  // namespace rackmark::worker
