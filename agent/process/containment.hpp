// Where the processes of one run live, so that all of them can be ended: a cgroup v2 of its own, a
// PID namespace, or (always as the last check) a sweep over /proc for the run's two marks in the
// environment. Process groups do not suffice: Open MPI gives every rank its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace rackmark::agent {

enum class ContainmentKind { kCgroupV2, kPidNamespace, kProcSweep };
std::string to_string(ContainmentKind kind);  // cgroup_v2, pid_namespace, proc_sweep
std::optional<ContainmentKind> containment_kind_from(const std::string& name);

// The folder under which this process may make cgroups: its own cgroup in the cgroup2 mount listed
// in `mounts` (text of /proc/self/mounts) by `membership` (text of /proc/self/cgroup). nullopt when
// there is none. Pure.
std::optional<std::filesystem::path> own_cgroup(const std::string& mounts,
                                                const std::string& membership);

// The best kind that really works here, by trying: makes and removes a cgroup, or a namespace.
ContainmentKind detect_containment();

// Marks in the environment of every process of a run. Two agents of one host (or two controllers'
// run 1) must not end each other's processes, hence the agent's mark beside the run's.
struct RunMark {
  std::int64_t run_id = 0;
  std::string agent;  // letters and digits; the same for one state folder, always
  std::string run_entry() const { return "RACKMARK_RUN=" + std::to_string(run_id); }
  std::string agent_entry() const { return "RACKMARK_AGENT=" + agent; }
};

// Live (not zombie) processes that carry both marks; never this process itself.
std::vector<pid_t> marked_processes(const RunMark& mark);

struct Containment {
  ContainmentKind kind = ContainmentKind::kProcSweep;
  std::filesystem::path cgroup;  // of the run, with kCgroupV2
  RunMark mark;

  // Makes the run's cgroup; falls back to kProcSweep when that fails.
  static Containment create(ContainmentKind kind, RunMark mark);

  std::vector<pid_t> members() const;  // all live processes: cgroup's and marked ones
  bool empty() const { return members().empty(); }
  // One pass of SIGKILL over everything; call until empty(). Returns whom it hit.
  std::vector<pid_t> kill_pass() const;
  void remove() const;  // the cgroup folders, once empty; never throws
};

// Kills until empty or until `timeout_ms`; reaps those that are our children. True when empty.
bool kill_until_empty(const Containment& containment, int timeout_ms);

}  // namespace rackmark::agent
