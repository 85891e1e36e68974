// Memory of a plan: planned first, then taken from the system in one piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rackmark::worker::onednn {

inline constexpr std::int64_t kPageBytes = 4096;

// Places buffers by lifetime: two buffers share memory when no event needs both. Events are
// numbered in the order in which they run. Every offset is a multiple of 64 bytes.
class ArenaPlan {
 public:
  // Returns the buffer's slot. It lives from `event` to the last event given to use().
  int add(std::int64_t bytes, int event);
  void use(int slot, int event);
  void keep(int slot);  // for the whole life of the plan
  // Decides all offsets; returns the size of the arena. Greedy, largest buffer first.
  std::int64_t assign();
  std::int64_t offset(int slot) const { return buffers_[slot].offset; }
  std::int64_t bytes(int slot) const { return buffers_[slot].bytes; }

 private:
  struct Buffer {
    std::int64_t bytes = 0;
    int first = 0, last = 0;
    std::int64_t offset = -1;
  };
  std::vector<Buffer> buffers_;
};

// Zeroed pages, in huge pages where the system grants them. Throws OutOfMemory.
class Pages {
 public:
  explicit Pages(std::int64_t bytes);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  void* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

}  // namespace rackmark::worker::onednn
