// Which CPUs this rank computes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/host/cpu_quota.hpp"
#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

struct UsableCpus {
  std::vector<std::vector<int>> cores;  // of this process's mask; each core's logical CPUs
  std::int64_t online_cores = 0;        // of the host
  bool restricted = false;              // the mask is smaller than the host
  std::optional<CpuQuota> quota;        // of CPU time, for all ranks of the host together
};
UsableCpus usable_cpus(const std::string& root = "");  // put before every path, for tests

// Physical cores that all ranks of this host have together: the mask's, unless the launcher has
// given each rank a part of the host; and no more than a quota feeds.
std::int64_t shared_cores(const UsableCpus& cpus, const LaunchedRanks& ranks);

// Contiguous cores of `rank` out of `ranks`; all of them when there are fewer cores than ranks.
std::vector<int> share_of(const std::vector<std::vector<int>>& cores, std::int64_t rank,
                          std::int64_t ranks);

// The ranks of one host: its workers, then its dedicated parameter servers.
struct HostRanks {
  std::int64_t workers = 1, servers = 0, threads = 1;  // threads: of each worker
  std::int64_t rank = 0;                               // this one of them
};
// Each server has one of the last cores and the workers share the others, if those are enough for
// their threads; else the workers share all cores and the servers are anywhere.
std::vector<int> share_of(const std::vector<std::vector<int>>& cores, const HostRanks& ranks);

// Several unbound ranks of one host would wander over each other's cores: gives each its own part.
// Nothing happens when the launcher has bound them or there is only one. Call before any thread.
void settle(const UsableCpus& cpus, const HostRanks& ranks);

// Denormals count as zero, in this thread and those it starts: they cost a hundred times a normal
// number and mean nothing here.
void flush_denormals();

}  // namespace rackmark::worker
