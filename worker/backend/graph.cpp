#include "worker/backend/graph.hpp"

#include <map>

namespace rackmark::worker {
namespace {

template <class L>
bool is(const Net& net, int id) {
  return std::holds_alternative<L>(net.nodes()[id].layer);
}

// The only reader of a node, or -1.
int only_reader(const std::vector<std::vector<int>>& readers, int id) {
  return readers[id].size() == 1 ? readers[id].front() : -1;
}

bool is_head(const Net& net, int id) {
  for (const auto& head : net.heads())
    if (head.node == id) return true;
  return false;
}

}  // namespace

std::vector<std::vector<int>> consumers(const Net& net) {
  std::vector<std::vector<int>> readers(net.nodes().size());
  for (std::size_t id = 0; id < net.nodes().size(); ++id)
    for (const int input : net.nodes()[id].inputs) readers[input].push_back(static_cast<int>(id));
  return readers;
}

std::vector<Group> group_nodes(const Net& net, bool merge) {
  const auto readers = consumers(net);
  const int count = static_cast<int>(net.nodes().size());
  std::map<int, NormGroup> by_output;
  std::vector<bool> merged(count, false);

  const auto close = [&](NormGroup group, int last) {  // takes a ReLU that alone reads `last`
    const int relu = only_reader(readers, last);
    if (merge && relu >= 0 && is<Relu>(net, relu) && !is_head(net, last)) {
      merged[last] = true;
      group.relu = true;
      last = relu;
    }
    group.output = last;
    merged[last] = true;
    by_output[last] = group;
  };

  if (merge) {
    for (int id = 0; id < count; ++id) {
      if (!is<Add>(net, id)) continue;
      const auto& inputs = net.nodes()[id].inputs;
      const auto joins = [&](int input) {
        return is<BatchNorm>(net, input) && only_reader(readers, input) == id &&
               !is_head(net, input);
      };
      const bool first = joins(inputs[0]), second = joins(inputs[1]);
      if (!first && !second) continue;
      NormGroup group;
      group.norm = first ? inputs[0] : inputs[1];
      (first && second ? group.second_norm : group.residual) = first ? inputs[1] : inputs[0];
      merged[group.norm] = true;
      if (group.second_norm >= 0) merged[group.second_norm] = true;
      close(group, id);
    }
  }
  for (int id = 0; id < count; ++id) {
    if (is<BatchNorm>(net, id) && !merged[id]) {
      NormGroup group;
      group.norm = id;
      close(group, id);
    }
  }

  std::vector<Group> groups;
  for (int id = 1; id < count; ++id) {  // 0 is the input
    if (const auto found = by_output.find(id); found != by_output.end())
      groups.emplace_back(found->second);
    else if (!merged[id])
      groups.emplace_back(id);
  }
  return groups;
}

}  // namespace rackmark::worker
