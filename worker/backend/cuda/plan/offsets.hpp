// Where the parts of one block of memory begin.
#pragma once

#include <cstdint>

namespace rackmark::worker::cuda {

// One after the other, each aligned for the libraries' widest loads.
class Offsets {
 public:
  std::int64_t add(std::int64_t bytes) {
    constexpr std::int64_t kAlignment = 256;
    const std::int64_t offset = total_;
    total_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }
  std::int64_t total() const { return total_; }

 private:
  std::int64_t total_ = 0;
};

}  // namespace rackmark::worker::cuda
