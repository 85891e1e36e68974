// Which values of an int8 plan are stored as integers, and in which steps.
#pragma once

#include <vector>

#include "worker/backend/integer_values.hpp"

namespace rackmark::worker::cuda {

inline constexpr int kIntegerSteps = 127;  // from 0 to a value's peak

// Convolutions compute in integers, and pools and joins hand them on; linear layers and everything
// else take values of 16 bits. A value is stored as integers where all who read it take them; a
// convolution that reads another one makes integers of it.
class IntegerChoice {
 public:
  IntegerChoice(const Net& net, const std::vector<Unit>& units);
  bool computes(const Unit& unit) const;
  bool stores(int value) const { return stores_[value]; }

 private:
  bool refuse(const Unit& unit);
  const Net& net_;
  std::vector<bool> stores_;  // by node
};

// What a stored 1 stands for, by node. `peaks` as seen, or none: 1 everywhere.
std::vector<float> integer_steps(const Net& net, const std::vector<Unit>& units, Peaks peaks);

}  // namespace rackmark::worker::cuda
