// From a net to the operations that compute it, in the order in which they run.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/plan/fusion.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {

struct Operations {
  std::vector<std::unique_ptr<Op>> ops;
  std::vector<bool> in_evaluation;  // by op: lies before the main head
};
// A node without weights, in inference or training; dropout passes everything through.
std::unique_ptr<Op> make_simple_op(const Net& net, int node);

// Also decides which values lie inside a concat's (Value::concat), and which need a gradient.
Operations make_operations(Assembly& assembly, const PlanOptions& options, const Fusion& fusion);

}  // namespace rackmark::worker::cuda
