#include "worker/backend/onednn/arena.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "worker/backend/backend.hpp"
#include "worker/backend/memory_limit.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kHugePage = 2 << 20;

std::int64_t rounded_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

}  // namespace

int ArenaPlan::add(std::int64_t bytes, int event) {
  buffers_.push_back({rounded_up(std::max<std::int64_t>(bytes, 1), kAlignment), event, event, -1});
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

Pages::Pages(std::int64_t bytes) : bytes_(bytes) {
  mapped_bytes_ = static_cast<std::size_t>(rounded_up(bytes, kHugePage) + kHugePage);
  mapped_ =
      mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) throw OutOfMemory(bytes, memory_limit().free_bytes);
  const auto start = reinterpret_cast<std::uintptr_t>(mapped_);
  data_ = reinterpret_cast<std::byte*>(rounded_up(static_cast<std::int64_t>(start), kHugePage));
  // Only advice: without huge pages everything still works.
  (void)madvise(data_, static_cast<std::size_t>(rounded_up(bytes, kHugePage)), MADV_HUGEPAGE);
}

Pages::~Pages() { munmap(mapped_, mapped_bytes_); }

}  // namespace rackmark::worker::onednn
