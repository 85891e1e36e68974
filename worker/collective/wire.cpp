#include "worker/collective/wire.hpp"

#include <algorithm>
#include <cstring>

#include "worker/collective/kernels/exchange_kernels.hpp"

namespace rackmark::worker {

namespace {

std::int64_t count_of(std::size_t size) { return static_cast<std::int64_t>(size); }

}  // namespace

std::size_t wire_bytes(Precision wire, std::int64_t count) {
  return static_cast<std::size_t>(count) * (wire == Precision::kFp32 ? 4 : 2);
}

void to_wire(Precision wire, std::span<const float> from, std::byte* to) {
  if (wire == Precision::kFp32) {
    std::memcpy(to, from.data(), from.size_bytes());
    return;
  }
  const ExchangeKernels& k = exchange_kernels();
  const auto round = wire == Precision::kBf16 ? k.to_bf16 : k.to_fp16;
  round(from.data(), reinterpret_cast<std::uint16_t*>(to), count_of(from.size()));
}

void from_wire(Precision wire, const std::byte* from, std::span<float> to) {
  if (wire == Precision::kFp32) {
    std::memcpy(to.data(), from, to.size_bytes());
    return;
  }
  const ExchangeKernels& k = exchange_kernels();
  const auto widen = wire == Precision::kBf16 ? k.from_bf16 : k.from_fp16;
  widen(reinterpret_cast<const std::uint16_t*>(from), to.data(), count_of(to.size()));
}

void add_from_wire(Precision wire, const std::byte* from, std::span<float> into) {
  const ExchangeKernels& k = exchange_kernels();
  if (wire == Precision::kFp32) {
    k.add(reinterpret_cast<const float*>(from), into.data(), count_of(into.size()));
    return;
  }
  const auto add = wire == Precision::kBf16 ? k.add_bf16 : k.add_fp16;
  add(reinterpret_cast<const std::uint16_t*>(from), into.data(), count_of(into.size()));
}

SixteenBitMean::SixteenBitMean(Communicator& ranks, Precision wire) : ranks_(ranks), wire_(wire) {}

// The last shards may be padded with zeros, so that all are equally long.
void SixteenBitMean::mean(std::span<float> values) {
  const auto ranks = static_cast<std::size_t>(ranks_.size());
  const std::size_t each = (values.size() + ranks - 1) / ranks;
  outgoing_.assign(each * ranks, 0);
  incoming_.resize(each * ranks);
  mine_.resize(each);
  sum_.resize(each);
  to_wire(wire_, values, reinterpret_cast<std::byte*>(outgoing_.data()));
  ranks_.all_to_all(outgoing_, incoming_);
  const auto from = [&](std::size_t rank) {
    return reinterpret_cast<const std::byte*>(incoming_.data() + rank * each);
  };
  from_wire(wire_, from(0), sum_);
  for (std::size_t rank = 1; rank < ranks; ++rank) add_from_wire(wire_, from(rank), sum_);
  exchange_kernels().scale(sum_.data(), 1.0F / static_cast<float>(ranks), count_of(each));
  to_wire(wire_, sum_, reinterpret_cast<std::byte*>(mine_.data()));
  ranks_.all_gather(mine_, outgoing_);
  from_wire(wire_, reinterpret_cast<const std::byte*>(outgoing_.data()), values);
}

}  // namespace rackmark::worker
