// Weights as inference runs them: batch norm folded in, integers where wanted.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/onednn/inference/units.hpp"

namespace rackmark::worker::onednn {

struct Folded {
  std::vector<std::int64_t> dims;  // OIHW, GOIHW with one channel a group, or (out, in)
  std::vector<float> weights;      // row major
  std::vector<float> bias;         // zeros where the layer has none
};

// Weights and bias of a unit's layer with its batch norm folded in, computed in double. A batch
// norm on its own becomes a 1x1 convolution of one channel a group.
Folded fold(const Net& net, const Unit& unit, const TrainedValues& values);

// weights of output channel c = integers * steps[c], symmetric, |integer| <= largest.
struct IntegerWeights {
  std::vector<std::int8_t> integers;
  std::vector<float> steps;
};
IntegerWeights quantize(const Folded& folded, int largest);

}  // namespace rackmark::worker::onednn
