// The guard: a small process between the agent and mpirun, in a session of its own, outside the
// run's containment. It holds the read end of a pipe from the agent. When that pipe closes (the
// agent died), or the agent says so, or mpirun ends, it ends every process of the run, waits until
// none is left, removes what Open MPI left behind, and writes the outcome into the run's folder,
// where an agent that was started again finds it.
#pragma once

#include <sys/types.h>

#include <boost/describe.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/process/containment.hpp"
#include "agent/process/unique_fd.hpp"

namespace rackmark::agent {

// launch.json in the run's folder: what the guard is to start and to watch.
struct GuardOrder {
  std::int64_t run_id = 0;
  std::string agent_mark;   // RunMark::agent
  std::string containment;  // a name of ContainmentKind
  std::string cgroup;
  std::string scratch;  // removed with all its content at the end; "" = none
  std::vector<std::string> argv, environment;
  std::int64_t grace_ms = 1000;  // between SIGTERM and SIGKILL
};
BOOST_DESCRIBE_STRUCT(GuardOrder, (),
                      (run_id, agent_mark, containment, cgroup, scratch, argv, environment,
                       grace_ms))
Containment containment_of(const GuardOrder& order);

enum class GuardCause { kExited, kStopped, kAgentDied, kNotStarted };
BOOST_DESCRIBE_ENUM(GuardCause, kExited, kStopped, kAgentDied, kNotStarted)

// guard.json in the run's folder: written last, when nothing of the run is left (or `empty` says
// that something could not be killed).
struct GuardOutcome {
  GuardCause cause = GuardCause::kExited;
  std::optional<std::int64_t> exit_code;  // of mpirun
  std::int64_t signal = 0;                // that ended mpirun
  std::string error;                      // why it could not be started
  bool empty = false;
  std::string ended_at;  // RFC 3339
};
BOOST_DESCRIBE_STRUCT(GuardOutcome, (), (cause, exit_code, signal, error, empty, ended_at))

void write_guard_order(const std::filesystem::path& run_folder, const GuardOrder& order);
std::optional<GuardOrder> read_guard_order(const std::filesystem::path& run_folder);
std::optional<GuardOutcome> read_guard_outcome(const std::filesystem::path& run_folder);

// `rackmark-agent guard FOLDER`: the whole program. Standard input is the agent's pipe. Returns the
// exit status: 0 when guard.json was written, else 1 with a line on standard error.
int guard_main(const std::filesystem::path& run_folder);

// The agent's hold on a guard. Dropping `control` is the same as the agent's death.
struct GuardedProcess {
  pid_t pid = 0;
  UniqueFd ended;     // pidfd: readable when the guard has ended
  UniqueFd control;   // write end
  UniqueFd out, err;  // mpirun's, non-blocking

  void ask_to_stop() const;  // SIGTERM, grace, SIGKILL
  void ask_to_kill() const;  // SIGKILL at once
};
// Starts `program guard run_folder`. Throws std::system_error.
GuardedProcess start_guard(const std::string& program, const std::filesystem::path& run_folder);

// Removes a run's scratch folder; refuses anything that is not named rackmark-*.
void remove_scratch(const std::filesystem::path& scratch);

}  // namespace rackmark::agent
