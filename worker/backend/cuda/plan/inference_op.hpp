// Operations of inference that have weights: constants of the plan, written once.
#pragma once

#include <memory>

#include "worker/backend/cuda/plan/offsets.hpp"
#include "worker/backend/cuda/plan/op.hpp"
#include "worker/backend/folded_weights.hpp"

namespace rackmark::worker::cuda {

class InferenceOp : public Op {
 public:
  // Adds the operation's constants to those of the plan. After plan_forward().
  virtual void plan_constants(Offsets& constants, Type type) = 0;
  // Once; `base` is where the plan's constants begin in the device's memory.
  virtual void write_constants(Device& device, std::byte* base) = 0;
};

// Of a unit whose node is a convolution, a linear layer or a batch norm.
std::unique_ptr<InferenceOp> make_inference_layer_op(const Net& net, const Unit& unit,
                                                     const TrainedValues& values);
// Of a convolution, in 8-bit integers; values of the assembly say in which steps.
std::unique_ptr<InferenceOp> make_integer_convolution_op(const Net& net, const Unit& unit,
                                                         const TrainedValues& values);

}  // namespace rackmark::worker::cuda
