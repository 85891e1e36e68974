// Which nodes of a net run as one operation.
#pragma once

#include <variant>
#include <vector>

#include "worker/net/net.hpp"

namespace rackmark::worker {

// relu?(batch_norm(x) + residual?), where the residual may be a batch norm of its own, whose input
// is then read instead of its output.
struct NormGroup {
  int norm = -1;         // BatchNorm node
  int second_norm = -1;  // BatchNorm node on the other side of the Add; or
  int residual = -1;     // any node there
  bool relu = false;
  int output = -1;  // node whose value this is: the last one merged
};

// One per operation, in an order in which every input comes before its reader. The int is a node
// that runs on its own.
using Group = std::variant<int, NormGroup>;

// Merges only where nothing else reads the values in between. With `merge` false every node runs
// on its own.
std::vector<Group> group_nodes(const Net& net, bool merge);

std::vector<std::vector<int>> consumers(const Net& net);  // by node id

}  // namespace rackmark::worker
