// Memory of a plan, taken from the system in one piece.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rackmark::worker::onednn {

inline constexpr std::int64_t kPageBytes = 4096;

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
