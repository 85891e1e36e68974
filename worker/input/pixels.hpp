// Memory for bytes of pictures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace rackmark::worker {

// Begins on a page, as a packed picture of side 256 does in the page cache. malloc's large pieces
// begin 16 bytes into one, and to such a place AMD's Zen 3 copies from the start of a page at a
// quarter of its speed (docs/performance.md).
template <class T>
struct PageAligned {
  using value_type = T;
  static constexpr std::align_val_t kPage{4096};

  PageAligned() = default;
  template <class U>
  PageAligned(const PageAligned<U>&) {}
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kPage));
  }
  void deallocate(T* at, std::size_t) { ::operator delete(at, kPage); }
  bool operator==(const PageAligned&) const = default;
};

using Pixels = std::vector<std::uint8_t, PageAligned<std::uint8_t>>;  // RGB interleaved

}  // namespace rackmark::worker
