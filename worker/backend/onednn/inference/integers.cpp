#include "worker/backend/onednn/inference/integers.hpp"

#include <algorithm>

namespace rackmark::worker::onednn {

IntegerChoice::IntegerChoice(const Net& net, const std::vector<Unit>& units, bool integers)
    : net_(net),
      non_negative_(net.nodes().size(), false),
      computes_(net.nodes().size(), false),
      stores_(net.nodes().size(), false) {
  if (!integers) return;
  find_signs(units);
  for (const Unit& unit : units) {
    const Layer& layer = net.nodes()[unit.node].layer;
    const bool weights =
        std::holds_alternative<Conv2d>(layer) || std::holds_alternative<Linear>(layer);
    computes_[unit.output] =
        weights && non_negative_[unit.inputs[0]] && unit.output != units.back().output;
  }
  find_stores(units);
}

void IntegerChoice::find_signs(const std::vector<Unit>& units) {
  for (const Unit& unit : units) {
    const Layer& layer = net_.nodes()[unit.node].layer;
    const bool mixes_signs = std::holds_alternative<Conv2d>(layer) ||
                             std::holds_alternative<Linear>(layer) ||
                             std::holds_alternative<BatchNorm>(layer);
    const bool from_non_negative = std::all_of(unit.inputs.begin(), unit.inputs.end(),
                                               [&](int i) { return non_negative_[i]; });
    non_negative_[unit.output] =
        unit.relu || std::holds_alternative<Relu>(layer) || (!mixes_signs && from_non_negative);
  }
}

void IntegerChoice::find_stores(const std::vector<Unit>& units) {
  for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
    const bool computes = computes_[unit->output];
    if (!computes && !stores_[unit->output]) continue;
    if (!computes && !keeps_integers(net_, *unit)) {
      stores_[unit->output] = false;  // made in float; its reader converts
      continue;
    }
    for (const int input : unit->inputs) stores_[input] = true;
    if (unit->residual >= 0 && stores_[unit->output]) stores_[unit->residual] = true;
  }
}

}  // namespace rackmark::worker::onednn
