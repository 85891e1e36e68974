#include "worker/backend/arena_plan.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace rackmark::worker {
namespace {

constexpr std::int64_t kAlignment = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

int ArenaPlan::add(std::int64_t bytes, int event) {
  buffers_.push_back({aligned(std::max<std::int64_t>(bytes, 1)), event, event, -1});
  return static_cast<int>(buffers_.size()) - 1;
}

void ArenaPlan::use(int slot, int event) {
  Buffer& buffer = buffers_[slot];
  buffer.first = std::min(buffer.first, event);
  buffer.last = std::max(buffer.last, event);
}

void ArenaPlan::keep(int slot) {
  buffers_[slot].first = 0;
  buffers_[slot].last = std::numeric_limits<int>::max();
}

std::int64_t ArenaPlan::assign() {
  std::vector<int> order(buffers_.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return buffers_[a].bytes > buffers_[b].bytes; });
  std::vector<int> placed;  // by offset
  std::int64_t total = 0;
  for (const int slot : order) {
    Buffer& buffer = buffers_[slot];
    std::int64_t at = 0;
    for (const int other : placed) {
      const Buffer& o = buffers_[other];
      if (o.last < buffer.first || buffer.last < o.first) continue;
      if (at + buffer.bytes <= o.offset) break;
      at = std::max(at, o.offset + o.bytes);
    }
    buffer.offset = at;
    total = std::max(total, at + buffer.bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), slot,
                         [&](int a, int b) { return buffers_[a].offset < buffers_[b].offset; }),
        slot);
  }
  return total;
}

}  // namespace rackmark::worker
