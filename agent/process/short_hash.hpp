// Eight hex digits that stand for a text: the same over restarts, builds and hosts, unlike
// std::hash. For names, not against people who want two texts to meet.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace rackmark::agent {

inline std::string short_hash(std::string_view text) {  // FNV-1a, folded
  std::uint64_t hash = 1469598103934665603ULL;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211ULL;
  }
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", static_cast<std::uint32_t>(hash ^ (hash >> 32)));
  return digits;
}

}  // namespace rackmark::agent
