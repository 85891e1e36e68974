// What a plan merges: the names of PlanOptions::fusion.
#pragma once

#include <string>

namespace rackmark::worker::cuda {

struct Fusion {
  bool norm = false;  // batch norm + residual add + ReLU, bias + ReLU, values made inside concats
};
Fusion parse_fusion(const std::string& text);  // throws std::invalid_argument naming what is known
std::string fusion_text(const Fusion& fusion);

}  // namespace rackmark::worker::cuda
