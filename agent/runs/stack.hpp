// What a process that makes no progress is doing, as far as this host lets us see.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/process/unique_fd.hpp"

namespace rackmark::agent {

// "T (stopped)", "S (sleeping)", "Z (zombie)" of /proc/PID/status; "" when there is none.
std::string process_state(pid_t pid);

// A line for each thread (at most 64): name, state, and where in the kernel it waits (its kernel
// stack where that may be read, which takes root; else the function's name).
std::vector<std::string> kernel_view(pid_t pid);

// Stacks of all threads by gdb, where there is one that may attach, in the background.
class StackTrace {
 public:
  StackTrace() = default;
  StackTrace(pid_t pid, std::filesystem::path file);  // gdb writes into `file`
  StackTrace(StackTrace&&) = default;
  StackTrace& operator=(StackTrace&&) = default;
  ~StackTrace() = default;  // call stop() first

  bool running();
  void stop();  // ends gdb where it still runs
  // Its frames, without what gdb says around them; empty: none could be had.
  std::vector<std::string> lines() const;

 private:
  pid_t gdb_ = 0;
  std::filesystem::path file_;
};

}  // namespace rackmark::agent
