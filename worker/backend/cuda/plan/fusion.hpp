// What a plan merges: the names of PlanOptions::fusion.
#pragma once

#include <string>

namespace rackmark::worker::cuda {

struct Fusion {
  bool norm = false;  // batch norm + residual add + ReLU, bias + ReLU, values made inside concats
  bool pool = false;  // batch norm + ReLU + max pool
  bool statistics = false;  // sums of a batch norm made by the convolution before it; fp16 only
};
// "" is bn-relu-add+pool. `precision` as in PlanOptions. Throws std::invalid_argument naming what
// is known.
Fusion parse_fusion(const std::string& text, const std::string& precision);
std::string fusion_text(const Fusion& fusion);

}  // namespace rackmark::worker::cuda
