#include "worker/backend/cuda/plan/fusion.hpp"

#include <stdexcept>

namespace rackmark::worker::cuda {
namespace {

// The first with a pool is the default.
constexpr Fusion kLevels[] = {
    {},
    {.norm = true},
    {.norm = true, .pool = true},
    {.norm = true, .statistics = true},
    {.norm = true, .pool = true, .statistics = true},
    {.norm = true, .pool = true, .statistics = true, .in_convolution = true}};

}  // namespace

Fusion parse_fusion(const std::string& text, const std::string& precision) {
  for (const Fusion& level : kLevels) {
    const bool is_meant = text.empty() ? level.pool : text == fusion_text(level);
    if (!is_meant) continue;
    if (!level.statistics || precision == "fp16") return level;
    throw std::invalid_argument("cuda: fusion '" + text + "' is for precision fp16, not '" +
                                precision + "': the library has no such kernels for others");
  }
  std::string known;
  for (const Fusion& level : kLevels) known += (known.empty() ? "" : ", ") + fusion_text(level);
  throw std::invalid_argument("cuda: unknown fusion '" + text + "', known: " + known);
}

std::string fusion_text(const Fusion& fusion) {
  if (!fusion.norm) return "none";
  return std::string("bn-relu-add") + (fusion.pool ? "+pool" : "") +
         (fusion.statistics ? "+conv-statistics" : "") +
         (fusion.in_convolution ? "+bn-in-conv" : "");
}

}  // namespace rackmark::worker::cuda
