// Numbers as they travel: fp32 as they are, fp16 and bf16 rounded to nearest, ties to even.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/domain/spec.hpp"
#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

// `wire` is kFp32, kFp16 or kBf16 everywhere here.
std::size_t wire_bytes(Precision wire, std::int64_t count);  // of so many numbers

// Buffers have exactly wire_bytes() for the numbers on the other side, aligned to 4 bytes.
void to_wire(Precision wire, std::span<const float> from, std::byte* to);
void from_wire(Precision wire, const std::byte* from, std::span<float> to);
void add_from_wire(Precision wire, const std::byte* from, std::span<float> into);

// Means over ranks through a 16-bit wire: every rank sends each other one its shard of the values
// (all-to-all), sums its own shard in fp32 in the order of ranks, and sends the rounded mean to
// everybody (all-gather). All ranks end with the same bits. Two roundings in all, whatever the
// number of ranks.
class SixteenBitMean {
 public:
  SixteenBitMean(Communicator& ranks, Precision wire);
  void mean(std::span<float> values);

 private:
  Communicator& ranks_;
  Precision wire_;
  std::vector<std::uint16_t> outgoing_, incoming_, mine_;
  std::vector<float> sum_;
};

}  // namespace rackmark::worker
