// Data caches of this host, as the kernel describes them.
#pragma once

#include <cstdint>
#include <string>

namespace rackmark::worker {

struct Cache {
  std::int64_t bytes = 0;      // of one instance; 0: unknown
  std::int64_t instances = 0;  // that serve this process's CPUs
  std::int64_t total() const { return bytes * instances; }
};

// Level 1 (data), 2, 3. `root` is put before every path, for tests.
Cache cache_of_level(int level, const std::string& root = "");
// All instances of the largest level there is; 32 MiB where nothing is known.
std::int64_t last_level_cache_bytes();

}  // namespace rackmark::worker
