#include "worker/backend/cuda/plan/fusion.hpp"

#include <stdexcept>

namespace rackmark::worker::cuda {

Fusion parse_fusion(const std::string& text) {
  if (text == "none") return {.norm = false};
  if (text.empty() || text == "bn-relu-add") return {.norm = true};
  throw std::invalid_argument("cuda: unknown fusion '" + text + "', known: none, bn-relu-add");
}

std::string fusion_text(const Fusion& fusion) { return fusion.norm ? "bn-relu-add" : "none"; }

}  // namespace rackmark::worker::cuda
