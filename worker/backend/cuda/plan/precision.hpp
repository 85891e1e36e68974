// How the names of PlanOptions::precision are computed.
#pragma once

#include <string>
#include <vector>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

struct Precision {
  Type type = Type::kFloat;  // of stored values
  Arithmetic arithmetic = Arithmetic::kFull;
  bool scales_loss = false;  // gradients of values need it to stay representable
};
std::vector<std::string> precision_names();          // fp32, tf32, bf16, fp16
Precision parse_precision(const std::string& name);  // throws std::invalid_argument naming them

}  // namespace rackmark::worker::cuda
