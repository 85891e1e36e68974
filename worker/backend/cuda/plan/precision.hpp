// How the names of PlanOptions::precision and InferOptions::precision are computed.
#pragma once

#include <string>
#include <vector>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

struct Precision {
  Type type = Type::kFloat;  // of stored values
  Arithmetic arithmetic = Arithmetic::kFull;
  bool scales_loss = false;  // gradients of values need it to stay representable
  bool integers = false;     // convolutions compute in 8 bits, what lies beside them in `type`
};
std::vector<std::string> precision_names();            // of training: fp32, tf32, bf16, fp16
std::vector<std::string> inference_precision_names();  // these and int8
// Both throw std::invalid_argument naming them.
Precision parse_precision(const std::string& name);
Precision parse_inference_precision(const std::string& name);

}  // namespace rackmark::worker::cuda
