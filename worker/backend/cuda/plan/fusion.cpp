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

bool is_for(const Fusion& level, const std::string& precision) {
  return !level.statistics || precision == "fp16";
}

}  // namespace

Fusion parse_fusion(const std::string& text, const std::string& precision) {
  for (const Fusion& level : kLevels) {
    const bool is_meant = text.empty() ? level.pool : text == fusion_text(level);
    if (!is_meant) continue;
    if (is_for(level, precision)) return level;
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

std::vector<std::string> fusion_names(const std::string& precision) {
  std::vector<std::string> names;
  for (const Fusion& level : kLevels) {
    if (is_for(level, precision)) names.push_back(fusion_text(level));
  }
  return names;
}

}  // namespace rackmark::worker::cuda
