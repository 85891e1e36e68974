#include "worker/backend/cuda/plan/fusion.hpp"

#include <stdexcept>

namespace rackmark::worker::cuda {

Fusion parse_fusion(const std::string& text, const std::string& precision) {
  if (text == "none") return {};
  if (text.empty() || text == "bn-relu-add") return {.norm = true};
  if (text == "bn-relu-add+conv-statistics") {
    if (precision == "fp16") return {.norm = true, .statistics = true};
    throw std::invalid_argument("cuda: fusion '" + text + "' is for precision fp16, not '" +
                                precision + "': the library has no such kernels for others");
  }
  throw std::invalid_argument("cuda: unknown fusion '" + text +
                              "', known: none, bn-relu-add, bn-relu-add+conv-statistics");
}

std::string fusion_text(const Fusion& fusion) {
  if (!fusion.norm) return "none";
  return fusion.statistics ? "bn-relu-add+conv-statistics" : "bn-relu-add";
}

}  // namespace rackmark::worker::cuda
