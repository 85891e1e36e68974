// What this host is. Nothing here throws: what cannot be learnt is "unknown", null or absent.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/process/containment.hpp"
#include "common/host/cpu_quota.hpp"
#include "common/protocol/agents.hpp"

namespace rackmark::agent {

struct ProbeInput {
  std::filesystem::path worker;         // asked for its versions, with a time limit
  std::filesystem::path state;          // whose file system's free space counts
  std::vector<std::string> data_roots;  // as configured
  ContainmentKind containment = ContainmentKind::kProcSweep;
};
// Takes up to some seconds: it starts the worker and mpirun. Any thread may call.
protocol::Inventory probe(const ProbeInput& input);

// Whether the controller should hear of `now`, having heard `told`. Free disk space changes all the
// time: less than a tenth of it is no news. Pure.
bool is_news(protocol::Inventory now, const protocol::Inventory& told);

// --- parts, each testable alone
// Vendor, model name, family, model, stepping, isa from the text of /proc/cpuinfo.
protocol::CpuInventory parse_cpuinfo(std::string_view text);
// The highest of sse4_1, avx2, avx512, avx512_vnni, avx512_bf16, amx; "baseline" below all of them.
std::string isa_level(std::string_view flags);
// Sockets, cores, processors and NUMA domains that this process may use: by hwloc, within the
// affinity mask, and as many as a cgroup's quota feeds. What does not count is said in the notes.
void probe_topology(protocol::Inventory& into, const std::optional<CpuQuota>& quota);

std::string os_name(std::string_view os_release);  // PRETTY_NAME
std::string virtualization();                      // none, kvm, hyperv, vmware, xen, container, ...
// The one governor of all processors, "mixed", or null when the kernel has no frequency control.
std::optional<std::string> governor(const std::filesystem::path& cpus = "/sys/devices/system/cpu");
std::vector<std::string> addresses();  // CIDR of interfaces that are up, no loopback
std::int64_t memory_bytes();
std::int64_t free_disk_bytes(const std::filesystem::path& path);

// GPUs that this process may use (CUDA_VISIBLE_DEVICES), none without a driver, and as version
// "cuda_driver" the newest CUDA that it serves.
void probe_gpus(protocol::Inventory& into);

// The allocation of Slurm that the variables of a task of it name; nullopt: there is none. Pure.
std::optional<protocol::SlurmAllocation> slurm_allocation(
    const std::map<std::string, std::string>& environment);
// Whether srun is here and can start ranks of Open MPI, from what `srun --mpi=list` says.
bool srun_knows_pmix(std::string_view mpi_types);
// The allocation around this process, when srun can start ranks in it.
std::optional<protocol::SlurmAllocation> usable_slurm_allocation();

// rackmark, and what the worker and mpirun say of themselves.
std::map<std::string, std::string> versions(const std::filesystem::path& worker);

}  // namespace rackmark::agent
