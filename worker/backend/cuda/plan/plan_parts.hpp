// What the plans for training and for inference share: a net for a batch in a precision, where its
// values lie, and the one block of the device's memory that holds everything.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/plan/fusion.hpp"
#include "worker/backend/cuda/plan/op.hpp"
#include "worker/backend/cuda/plan/precision.hpp"

namespace rackmark::worker::cuda {

class PlanParts {
 protected:
  // Throws std::invalid_argument for a batch below 1 and a net without a loss.
  PlanParts(const Net& net, int batch, const Precision& precision, const Fusion& fusion);
  ~PlanParts() = default;

  // Plans are made without a device; from here on there is one. Throws OutOfMemory when it has not
  // so many bytes free.
  void open(std::shared_ptr<Device> device, std::int64_t most_bytes);
  std::int64_t most_workspace_bytes() const {  // what an engine may want
    return workspace_limit(precision_.type, precision_.arithmetic);
  }
  bool is_narrow() const { return precision_.type != Type::kFloat; }
  void keep_logits();  // nothing else takes their memory in the arena
  std::vector<double> read_logits(const std::byte* arena) const;
  PlanFacts device_facts(std::int64_t bytes) const;
  Pass make_pass(void* workspace, bool training, Stopwatch* stopwatch) const;

  std::shared_ptr<Device> device_;  // null: not opened
  Net net_;
  Fusion fusion_;
  Precision precision_;
  Assembly assembly_;
  std::int64_t arena_bytes_ = 0;
  std::shared_ptr<std::byte> memory_;
};

}  // namespace rackmark::worker::cuda
