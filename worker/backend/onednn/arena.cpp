#include "worker/backend/onednn/arena.hpp"

#include <sys/mman.h>

#include "worker/backend/backend.hpp"
#include "worker/backend/memory_limit.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kHugePage = 2 << 20;

std::int64_t rounded_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

}  // namespace

Pages::Pages(std::int64_t bytes) : bytes_(bytes) {
  mapped_bytes_ = static_cast<std::size_t>(rounded_up(bytes, kHugePage) + kHugePage);
  mapped_ =
      mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) throw OutOfMemory(bytes, memory_limit());
  const auto start = reinterpret_cast<std::uintptr_t>(mapped_);
  data_ = reinterpret_cast<std::byte*>(rounded_up(static_cast<std::int64_t>(start), kHugePage));
  // Only advice: without huge pages everything still works.
  (void)madvise(data_, static_cast<std::size_t>(rounded_up(bytes, kHugePage)), MADV_HUGEPAGE);
}

Pages::~Pages() { munmap(mapped_, mapped_bytes_); }

}  // namespace rackmark::worker::onednn
