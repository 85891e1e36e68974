#include "worker/backend/inference_units.hpp"

#include <algorithm>
#include <utility>

namespace rackmark::worker {
namespace {

template <class L>
bool node_is(const Net& net, int id) {
  return std::holds_alternative<L>(net.nodes()[id].layer);
}

bool has_weights(const Net& net, int id) {
  return node_is<Conv2d>(net, id) || node_is<Linear>(net, id);
}

class Grouping {
 public:
  Grouping(const Net& net, bool merge) : net_(net), merge_(merge), value_(net.nodes().size()) {
    find_needed();
    for (int id = 0; id < count(); ++id) {
      value_[id] = node_is<Dropout>(net, id) ? value_[net.nodes()[id].inputs[0]] : id;
    }
    readers_.resize(net.nodes().size());
    for (int id = 0; id < count(); ++id) {
      if (!needed_[id] || node_is<Dropout>(net_, id)) continue;
      for (const int input : net.nodes()[id].inputs) readers_[value_[input]].push_back(id);
    }
  }

  std::vector<Unit> run() {
    for (int id = 1; id < count(); ++id) {
      if (needed_[id] && !node_is<Dropout>(net_, id)) add(id);
    }
    std::sort(units_.begin(), units_.end(),
              [](const Unit& a, const Unit& b) { return a.output < b.output; });
    return std::move(units_);
  }

 private:
  int count() const { return static_cast<int>(net_.nodes().size()); }
  int head() const { return value_[net_.heads()[0].node]; }

  void find_needed() {
    needed_.assign(net_.nodes().size(), false);
    needed_[net_.heads()[0].node] = true;
    for (int id = count() - 1; id >= 0; --id) {
      if (!needed_[id]) continue;
      for (const int input : net_.nodes()[id].inputs) needed_[input] = true;
    }
  }

  // The unit that made a value which nothing but the next node wants; null if there is none, or if
  // running it as late as that node would find one of its inputs overwritten.
  Unit* open_unit(int value) {
    if (!merge_ || value == head() || readers_[value].size() != 1) return nullptr;
    const auto made = [value](const Unit& unit) { return unit.output == value; };
    const auto found = std::find_if(units_.begin(), units_.end(), made);
    if (found == units_.end()) return nullptr;
    const auto overwritten = [&](int input) {
      return std::any_of(units_.begin(), units_.end(),
                         [input](const Unit& unit) { return unit.residual == input; });
    };
    const auto& inputs = found->inputs;
    return std::any_of(inputs.begin(), inputs.end(), overwritten) ? nullptr : &*found;
  }

  void add(int id) {
    std::vector<int> inputs;
    for (const int input : net_.nodes()[id].inputs) inputs.push_back(value_[input]);
    if (node_is<BatchNorm>(net_, id) && take_norm(id, inputs[0])) return;
    if (node_is<Relu>(net_, id) && take_relu(id, inputs[0])) return;
    if (node_is<Add>(net_, id) &&
        (take_add(id, inputs[0], inputs[1]) || take_add(id, inputs[1], inputs[0]))) {
      return;
    }
    Unit unit;
    unit.node = unit.output = id;
    unit.inputs = std::move(inputs);
    units_.push_back(std::move(unit));
  }

  bool take_norm(int id, int input) {
    Unit* unit = open_unit(input);
    if (unit == nullptr || !node_is<Conv2d>(net_, unit->output)) return false;
    unit->norm = unit->output = id;
    return true;
  }

  bool take_relu(int id, int input) {
    Unit* unit = open_unit(input);
    if (unit == nullptr || unit->relu) return false;
    if (!has_weights(net_, unit->node) && !node_is<BatchNorm>(net_, unit->node)) return false;
    unit->relu = true;
    unit->output = id;
    return true;
  }

  // The sum is written over the residual, so nobody may want that afterwards.
  bool take_add(int id, int main, int residual) {
    Unit* unit = open_unit(main);
    if (unit == nullptr || !node_is<Conv2d>(net_, unit->node)) return false;
    if (unit->relu || unit->residual >= 0) return false;
    const auto& readers = readers_[residual];
    const bool last = readers.back() == id && std::count(readers.begin(), readers.end(), id) == 1;
    if (residual == 0 || residual == head() || !last) return false;
    if (residual == main || residual == unit->inputs[0]) return false;
    unit->residual = residual;
    unit->output = id;
    return true;
  }

  const Net& net_;
  const bool merge_;
  std::vector<bool> needed_;
  std::vector<int> value_;                 // by node
  std::vector<std::vector<int>> readers_;  // by value: nodes, ascending
  std::vector<Unit> units_;
};

}  // namespace

std::vector<Unit> inference_units(const Net& net, bool merge) { return Grouping(net, merge).run(); }

std::vector<std::vector<int>> readers_of(const Net& net, const std::vector<Unit>& units) {
  std::vector<std::vector<int>> readers(net.nodes().size());
  for (std::size_t i = 0; i < units.size(); ++i) {
    for (const int input : units[i].inputs) readers[input].push_back(static_cast<int>(i));
    if (units[i].residual >= 0) readers[units[i].residual].push_back(static_cast<int>(i));
  }
  return readers;
}

}  // namespace rackmark::worker
