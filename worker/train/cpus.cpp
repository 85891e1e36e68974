#include "worker/train/cpus.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#if defined(__x86_64__)
#include <pmmintrin.h>
#include <xmmintrin.h>
#endif

namespace rackmark::worker {

namespace {

// "0-2,4": as the kernel writes a list of CPUs.
std::vector<int> read_list(std::istream& in) {
  std::vector<int> cpus;
  int first = 0;
  while (in >> first) {
    int last = first;
    if (in.peek() == '-') in.ignore() >> last;
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (in.peek() != ',') break;
    in.ignore();
  }
  return cpus;
}

// Their numbers may have gaps: a CPU can be switched off.
std::vector<int> online_cpus(const std::string& root) {
  std::ifstream in(root + "/sys/devices/system/cpu/online");
  std::vector<int> cpus = read_list(in);
  if (!cpus.empty()) return cpus;
  cpus.resize(static_cast<std::size_t>(std::max<long>(1, sysconf(_SC_NPROCESSORS_ONLN))));
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

// This process's mask; it may name CPUs that are not online. Empty when the kernel does not say.
std::vector<int> allowed_cpus(const std::string& root) {
  std::ifstream in(root + "/proc/self/status");
  for (std::string name; in >> name;) {
    if (name == "Cpus_allowed_list:") return read_list(in);
  }
  return {};
}

// Package and core of a logical CPU; a host that does not say has one CPU a core.
std::pair<int, int> core_of(int cpu, const std::string& root) {
  const std::string folder =
      root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
  int package = 0, core = cpu;
  std::ifstream(folder + "physical_package_id") >> package;
  std::ifstream core_file(folder + "core_id");
  if (!(core_file >> core)) core = cpu;
  return {package, core};
}

}  // namespace

UsableCpus usable_cpus(const std::string& root) {
  UsableCpus cpus;
  const std::vector<int> allowed = allowed_cpus(root);
  std::map<std::pair<int, int>, std::vector<int>> mine, all;
  for (const int cpu : online_cpus(root)) {
    const auto core = core_of(cpu, root);
    all[core].push_back(cpu);
    if (allowed.empty() || std::binary_search(allowed.begin(), allowed.end(), cpu)) {
      mine[core].push_back(cpu);
    } else {
      cpus.restricted = true;
    }
  }
  for (auto& [core, logical] : mine) cpus.cores.push_back(std::move(logical));
  cpus.online_cores = static_cast<std::int64_t>(all.size());
  cpus.quota = cpu_quota(root);
  return cpus;
}

std::int64_t shared_cores(const UsableCpus& cpus, const LaunchedRanks& ranks) {
  auto cores = std::max<std::int64_t>(1, static_cast<std::int64_t>(cpus.cores.size()));
  if (cpus.restricted && ranks.size > 1) cores = std::max(cores, cpus.online_cores);
  return cores_within(cpus.quota, cores);
}

std::vector<int> share_of(const std::vector<std::vector<int>>& cores, std::int64_t rank,
                          std::int64_t ranks) {
  const auto count = static_cast<std::int64_t>(cores.size());
  const bool enough = count >= ranks;
  const std::int64_t from = enough ? rank * count / ranks : 0;
  const std::int64_t to = enough ? (rank + 1) * count / ranks : count;
  std::vector<int> cpus;
  for (std::int64_t core = from; core < to; ++core) {
    const auto& logical = cores[static_cast<std::size_t>(core)];
    cpus.insert(cpus.end(), logical.begin(), logical.end());
  }
  return cpus;
}

std::vector<int> share_of(const std::vector<std::vector<int>>& cores, const HostRanks& ranks) {
  const auto count = static_cast<std::int64_t>(cores.size());
  const bool apart = count - ranks.servers >= ranks.workers * ranks.threads;
  const bool server = ranks.rank >= ranks.workers;
  if (!apart) return server ? share_of(cores, 0, 1) : share_of(cores, ranks.rank, ranks.workers);
  const auto of_workers = cores.end() - ranks.servers;
  if (server) return share_of({of_workers, cores.end()}, ranks.rank - ranks.workers, ranks.servers);
  return share_of({cores.begin(), of_workers}, ranks.rank, ranks.workers);
}

void settle(const UsableCpus& cpus, const HostRanks& ranks) {
  if (cpus.restricted || ranks.workers + ranks.servers <= 1) return;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int cpu : share_of(cpus.cores, ranks)) CPU_SET(cpu, &mask);
  if (sched_setaffinity(0, sizeof mask, &mask) != 0) {
    std::perror("rackmark-worker: sched_setaffinity (going on unbound)");
  }
}

void flush_denormals() {
#if defined(__x86_64__)
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
  _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
#endif
}

}  // namespace rackmark::worker
