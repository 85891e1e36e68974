// The CPU quota under which this process runs: docker --cpus, a CPU limit of Kubernetes, systemd's
// CPUQuota. Unlike an affinity mask it says how much CPU time, not which CPUs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace rackmark {

struct CpuQuota {
  double cpus = 0;         // that may be busy at once, on average over a scheduler's period
  double throttled_s = 0;  // CPU time for which the quota has held its processes back until now
};

// The smallest quota of this process's cgroup and of every one above it (v2 cpu.max, v1
// cpu.cfs_quota_us). Null: none, or none that can be read. `root` is put before every path, for
// tests.
std::optional<CpuQuota> cpu_quota(const std::string& root = "");

// How many of `cores` can compute all the time: whole CPUs of the quota, at least one.
std::int64_t cores_within(const std::optional<CpuQuota>& quota, std::int64_t cores);

}  // namespace rackmark
