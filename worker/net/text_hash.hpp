// FNV-1a of 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/): for seeds, keys and names of
// files, where nobody gains by making two texts alike.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace rackmark::worker {

constexpr std::uint64_t text_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

inline std::string text_hash_digits(std::string_view text) {  // 16, hexadecimal
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(text_hash(text)));
  return digits;
}

}  // namespace rackmark::worker
