// The fusion pass of inference: which nodes of a net run as one operation.
#pragma once

#include <string>
#include <vector>

#include "worker/net/net.hpp"

namespace rackmark::worker {

// relu?(layer(input) folded with norm? + residual?). Values are named by the node that made them;
// dropout is nothing in inference, so a dropout's value is its input's.
struct Unit {
  int node = -1;      // whose layer runs; a batch norm on its own runs as one
  int norm = -1;      // batch norm folded into its weights
  int residual = -1;  // value that is added, and overwritten by the result
  bool relu = false;
  int output = -1;          // the value that it makes: the last node merged
  std::vector<int> inputs;  // values
};

// In an order in which every input comes before its reader. Only what the main head needs: no
// auxiliary heads. With `merge` false every node runs on its own.
std::vector<Unit> inference_units(const Net& net, bool merge);

// Readers of every value, as positions in `units` (a residual counts as read).
std::vector<std::vector<int>> readers_of(const Net& net, const std::vector<Unit>& units);

}  // namespace rackmark::worker
