// Weights of int8 inference.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/backend/folded_weights.hpp"

namespace rackmark::worker {

// weights of output channel c = integers * steps[c], symmetric, |integer| <= largest.
struct IntegerWeights {
  std::vector<std::int8_t> integers;
  std::vector<float> steps;
};
IntegerWeights quantize(const Folded& folded, int largest);

}  // namespace rackmark::worker
