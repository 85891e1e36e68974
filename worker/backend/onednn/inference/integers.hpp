// Which parts of a net run in 8 bit integers, and in which steps.
#pragma once

#include <vector>

#include "worker/backend/integer_values.hpp"

namespace rackmark::worker::onednn {

// Convolutions and linear layers whose input cannot be negative compute in integers; the first
// convolution (pictures are signed) and the main head's last layer do not. Values between them are
// stored as integers, also through pools, joins and sums with a residual.
class IntegerChoice {
 public:
  IntegerChoice(const Net& net, const std::vector<Unit>& units, bool integers);
  bool computes(const Unit& unit) const { return computes_[unit.output]; }
  bool stores(int value) const { return stores_[value]; }
  bool non_negative(int value) const { return non_negative_[value]; }

 private:
  void find_signs(const std::vector<Unit>& units);
  void find_stores(const std::vector<Unit>& units);
  const Net& net_;
  std::vector<bool> non_negative_, computes_, stores_;  // by value
};

}  // namespace rackmark::worker::onednn
