// Where the buffers of a plan lie in one arena, decided from their lifetimes.
#pragma once

#include <cstdint>
#include <vector>

namespace rackmark::worker {

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

}  // namespace rackmark::worker
