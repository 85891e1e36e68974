// What a plan merges: the names of PlanOptions::fusion.
#pragma once

#include <string>
#include <vector>

namespace rackmark::worker::cuda {

struct Fusion {
  bool norm = false;  // batch norm + residual add + ReLU, bias + ReLU, values made inside concats
  bool pool = false;  // batch norm + ReLU + max pool
  // fp16 only. Sums of a batch norm are made by the convolution before it, those of its way back by
  // the one after it; batch norm + ReLU by the convolution that alone reads them.
  bool statistics = false;
  bool in_convolution = false;  // with statistics
};
// "" is bn-relu-add+pool. `precision` as in PlanOptions. Throws std::invalid_argument naming what
// is known.
Fusion parse_fusion(const std::string& text, const std::string& precision);
std::string fusion_text(const Fusion& fusion);
std::vector<std::string> fusion_names(const std::string& precision);  // that are for it

}  // namespace rackmark::worker::cuda
