// How much memory this process may still take, so that a job too large is refused in one clear
// event instead of being killed half-way.
#pragma once

#include <cstdint>
#include <string>

namespace rackmark::worker {

struct MemoryLimit {
  std::int64_t free_bytes = 0;  // INT64_MAX when nothing limits
  std::string set_by;           // "cgroup v2", "cgroup v1", "RLIMIT_AS", "MemAvailable", kGpuMemory
};
// How set_by begins where the memory is a device's and not this process's.
inline constexpr const char* kGpuMemory = "GPU memory";

// The smallest of: cgroup v2 memory.max and cgroup v1 memory.limit_in_bytes of this process's group
// and of every group above it, less what is in use there and cannot be reclaimed as file cache;
// RLIMIT_AS less the address space in use; MemAvailable of /proc/meminfo. What cannot be read does
// not limit. Groups and machine are shared equally by `processes`; RLIMIT_AS is each process's own.
// `root` is put before every path, for tests.
MemoryLimit memory_limit(const std::string& root = "", std::int64_t processes = 1);

}  // namespace rackmark::worker
