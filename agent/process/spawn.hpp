// Children without a shell: argv and environment are given whole, nothing is inherited but what is
// named. Call from a thread that lives as long as the child should: a parent-death signal belongs
// to the thread that forked.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/process/unique_fd.hpp"

namespace rackmark::agent {

struct SpawnRequest {
  std::vector<std::string> argv;         // argv[0] without a slash is looked up in PATH of `env`
  std::vector<std::string> environment;  // "NAME=value", the whole environment
  std::filesystem::path folder;          // working directory; empty: the parent's
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;  // -1: /dev/null
  bool new_session = true;
  int death_signal = 0;        // sent when the spawning thread ends; 0: none
  int cgroup_procs_fd = -1;    // the child enters this cgroup before exec
  bool pid_namespace = false;  // child runs under a small init of its own PID namespace; the
                               // returned pid is the init's, its exit status the program's
                               // (128 + n for signal n). Only from a single-threaded program.
};

// Returns once the program runs (exec succeeded). Throws std::system_error naming what failed.
pid_t spawn(const SpawnRequest& request);

// Becomes this program, under the same pid. Returns only when that failed: errno. argv[0] without a
// slash is looked up in PATH of `environment`.
int replace_process(const std::vector<std::string>& argv,
                    const std::vector<std::string>& environment);

struct ExitStatus {
  int code = 0;    // 0 to 255, when signal is 0
  int signal = 0;  // the signal that ended it
};
ExitStatus exit_status_of(int wait_status);
std::string describe(const ExitStatus& status);  // "exit status 3", "signal 9 (Killed)"

// Full path of `program` in the colon-separated `path`; nullopt when there is none to execute.
std::optional<std::string> find_program(const std::string& program, const std::string& path);

UniqueFd open_pidfd(pid_t pid);  // readable when the process has ended; empty when it is gone

struct Captured {
  bool started = false, timed_out = false;
  ExitStatus status;
  std::string out;  // standard output, at most `limit` bytes
};
// Runs a program to its end or kills it after `timeout_ms`. Never throws: a program that cannot be
// started is reported as not started.
Captured capture(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                 int timeout_ms, std::size_t limit = std::size_t{1} << 20);

// Identity of a process that survives pid reuse: its start time in clock ticks; nullopt when gone
// or a zombie.
std::optional<std::uint64_t> start_ticks(pid_t pid);

}  // namespace rackmark::agent
