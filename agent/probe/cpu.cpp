#include <fmt/format.h>
#include <hwloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "agent/probe/inventory.hpp"

namespace rackmark::agent {

using protocol::CpuInventory;

namespace {

std::int64_t to_number(const std::string& text) { return std::strtoll(text.c_str(), nullptr, 10); }

std::string or_unknown(const std::string& text) { return text.empty() ? "unknown" : text; }

using CpuSet = std::unique_ptr<hwloc_bitmap_s, decltype(&hwloc_bitmap_free)>;

CpuSet empty_set() { return {hwloc_bitmap_alloc(), hwloc_bitmap_free}; }

// Those that this process may not run on: taskset, a service's CPUAffinity. hwloc itself leaves out
// those that a cpuset forbids.
void leave_out_foreign_cpus(hwloc_topology_t topology) {
  if (hwloc_topology_is_thissystem(topology) == 0) return;
  const CpuSet own = empty_set();
  if (hwloc_get_cpubind(topology, own.get(), HWLOC_CPUBIND_PROCESS) == 0)
    hwloc_topology_restrict(topology, own.get(), HWLOC_RESTRICT_FLAG_REMOVE_CPULESS);
}

// Nodes with CPUs that no smaller node has. hwloc gives memory that has none of its own (CXL, the
// fast memory of some processors) an empty set, or the CPUs that it is near to.
std::int64_t domains_with_cpus(hwloc_topology_t topology) {
  std::vector<hwloc_obj_t> nodes;
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;)
    nodes.push_back(node);
  std::stable_sort(nodes.begin(), nodes.end(), [](hwloc_obj_t a, hwloc_obj_t b) {
    return hwloc_bitmap_weight(a->cpuset) < hwloc_bitmap_weight(b->cpuset);
  });
  const CpuSet covered = empty_set();
  std::int64_t domains = 0;
  for (const hwloc_obj_t node : nodes) {
    if (hwloc_bitmap_isincluded(node->cpuset, covered.get()) != 0) continue;
    hwloc_bitmap_or(covered.get(), covered.get(), node->cpuset);
    ++domains;
  }
  return domains;
}

void note_online_cpus(protocol::Inventory& inventory) {
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (inventory.cpu.logical_cpus >= online) return;
  inventory.notes.push_back(
      fmt::format("{} of the host's {} CPUs count: this agent may not run on the others (affinity "
                  "or cpuset)",
                  inventory.cpu.logical_cpus, online));
}

void apply(const std::optional<CpuQuota>& quota, protocol::Inventory& to) {
  CpuInventory& cpu = to.cpu;
  const std::int64_t cores = cores_within(quota, cpu.physical_cores);
  if (cores < cpu.physical_cores)
    to.notes.push_back(
        fmt::format("{} of {} cores count{}: a cgroup's quota gives this agent {:g} CPUs at a time",
                    cores, cpu.physical_cores, cores == 1 ? "s" : "", quota->cpus));
  cpu.physical_cores = cores;
  cpu.logical_cpus = cores_within(quota, cpu.logical_cpus);
}

}  // namespace

std::string isa_level(std::string_view flags) {
  const std::string padded = " " + std::string(flags) + " ";
  auto has = [&](std::string_view flag) {
    return padded.find(" " + std::string(flag) + " ") != std::string::npos;
  };
  const bool avx512 = has("avx512f") && has("avx512bw") && has("avx512vl") && has("avx512dq");
  if (has("amx_tile") && has("amx_bf16")) return "amx";
  if (avx512 && has("avx512_bf16")) return "avx512_bf16";
  if (avx512 && has("avx512_vnni")) return "avx512_vnni";
  if (avx512) return "avx512";
  if (has("avx2") && has("fma")) return "avx2";
  if (has("sse4_1")) return "sse4_1";
  return "baseline";
}

CpuInventory parse_cpuinfo(std::string_view text) {
  std::map<std::string, std::string> first;  // of the first processor: the others are alike
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto name_end = line.find_last_not_of(" \t", colon == 0 ? 0 : colon - 1);
    const auto value_at = line.find_first_not_of(" \t", colon + 1);
    first.try_emplace(line.substr(0, name_end + 1),
                      value_at == std::string::npos ? "" : line.substr(value_at));
  }
  CpuInventory cpu;
  cpu.vendor = or_unknown(first["vendor_id"]);
  cpu.model_name = or_unknown(first["model name"]);
  cpu.family = to_number(first["cpu family"]);
  cpu.model = to_number(first["model"]);
  cpu.stepping = to_number(first["stepping"]);
  cpu.isa = first["flags"].empty() ? "unknown" : isa_level(first["flags"]);
  return cpu;
}

void probe_topology(protocol::Inventory& into, const std::optional<CpuQuota>& quota) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return;
  const std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)> topology(
      raw, hwloc_topology_destroy);
  if (hwloc_topology_load(raw) != 0) return;
  leave_out_foreign_cpus(raw);
  auto count = [&](hwloc_obj_type_t type) {
    return static_cast<std::int64_t>(std::max(hwloc_get_nbobjs_by_type(raw, type), 0));
  };
  CpuInventory& cpu = into.cpu;
  cpu.sockets = std::max<std::int64_t>(count(HWLOC_OBJ_PACKAGE), 1);
  cpu.logical_cpus = std::max<std::int64_t>(count(HWLOC_OBJ_PU), 1);
  cpu.physical_cores = count(HWLOC_OBJ_CORE);
  if (cpu.physical_cores == 0) cpu.physical_cores = cpu.logical_cpus;  // some virtual machines
  cpu.numa_domains = std::max<std::int64_t>(domains_with_cpus(raw), 1);
  if (hwloc_topology_is_thissystem(raw) != 0) note_online_cpus(into);
  apply(quota, into);
  cpu.smt = cpu.logical_cpus > cpu.physical_cores;
}

}  // namespace rackmark::agent
