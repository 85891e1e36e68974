// Values for measuring: zeros would draw less power and run faster than any others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

// 0.5 <= |v| < 1, of both signs, stored as `type`; integers from -128 to 127. xorshift: enough for
// values whose only task is not to be alike.
inline std::vector<std::byte> random_values(Type type, std::int64_t count) {
  constexpr std::uint32_t kHalves[] = {0x3F000000, 0x3800, 0x3F00, 0};  // the bits of 0.5
  constexpr std::uint32_t kMantissas[] = {0x7FFFFF, 0x3FF, 0x7F, 0x7F};
  const auto kind = static_cast<std::size_t>(type);
  const std::uint32_t half = kHalves[kind], mantissa = kMantissas[kind];
  const auto bytes = static_cast<std::size_t>(width(type));
  std::vector<std::byte> values(static_cast<std::size_t>(count) * bytes);
  std::uint32_t state = 0x9E3779B9;
  for (std::size_t at = 0; at < values.size(); at += bytes) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    const std::uint32_t sign = (state >> 31) << (bytes * 8 - 1);
    const std::uint32_t bits = half | (state & mantissa) | sign;
    std::memcpy(&values[at], &bits, bytes);  // little endian
  }
  return values;
}

// The same in a device's memory, block by block, so that the host keeps little. Returns when they
// are there.
inline void fill_randomly(Device& device, Type type, std::byte* to, std::int64_t bytes) {
  constexpr std::int64_t kBlock = std::int64_t{8} << 20;
  const auto block = random_values(type, kBlock / width(type));
  for (std::int64_t at = 0; at < bytes; at += kBlock) {
    device.upload(to + at, block.data(), std::min(kBlock, bytes - at));
  }
  device.wait();
}

}  // namespace rackmark::worker::cuda
