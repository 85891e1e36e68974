#include "worker/backend/cuda/plan/integer_choice.hpp"

#include <algorithm>

namespace rackmark::worker::cuda {

IntegerChoice::IntegerChoice(const Net& net, const std::vector<Unit>& units)
    : net_(net), stores_(net.nodes().size(), false) {
  stores_[0] = true;
  for (const Unit& unit : units) {
    stores_[unit.output] = computes(unit) || keeps_integers(net, unit);
  }
  stores_[net.heads()[0].node] = false;
  // What one reader refuses, those who only hand it on refuse of others: until nobody is left.
  for (bool refused = true; refused;) {
    refused = false;
    for (const Unit& unit : units) refused = refuse(unit) || refused;
  }
}

bool IntegerChoice::computes(const Unit& unit) const {
  return std::holds_alternative<Conv2d>(net_.nodes()[unit.node].layer);
}

bool IntegerChoice::refuse(const Unit& unit) {
  if (computes(unit)) return false;
  const bool all_are_stored = std::all_of(unit.inputs.begin(), unit.inputs.end(),
                                          [&](int input) { return stores_[input]; });
  if (stores_[unit.output] && all_are_stored) return false;
  bool changed = stores_[unit.output];
  stores_[unit.output] = false;
  for (const int input : unit.inputs) {
    changed = changed || stores_[input];
    stores_[input] = false;
  }
  return changed;
}

std::vector<float> integer_steps(const Net& net, const std::vector<Unit>& units, Peaks peaks) {
  peaks.resize(net.nodes().size(), 0.0F);
  share_peaks(net, units, peaks);
  for (float& peak : peaks) peak /= kIntegerSteps;
  return peaks;
}

}  // namespace rackmark::worker::cuda
