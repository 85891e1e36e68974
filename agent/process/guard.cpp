#include "agent/process/guard.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "agent/process/described_file.hpp"
#include "agent/process/spawn.hpp"
#include "common/clock.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;
using Steady = std::chrono::steady_clock;

namespace {

constexpr const char* kOrderFile = "launch.json";
constexpr const char* kOutcomeFile = "guard.json";
constexpr int kEmptyWithinMs = 15000;

// One run under guard: state of the poll loop.
class Watch {
 public:
  Watch(const GuardOrder& order, int control_fd) : order_(order), control_fd_(control_fd) {}

  GuardOutcome run() {
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGCHLD);
    ::sigaddset(&signals, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    signals_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!start()) return outcome_;
    while (!ended_) wait_once();
    return outcome_;
  }

 private:
  bool start() {
    UniqueFd procs;
    if (!order_.cgroup.empty())
      procs.reset(::open((order_.cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    try {
      mpirun_ =
          spawn({.argv = order_.argv,
                 .environment = order_.environment,
                 .stdout_fd = STDOUT_FILENO,
                 .stderr_fd = STDERR_FILENO,
                 .death_signal = SIGKILL,
                 .cgroup_procs_fd = procs.get(),
                 .pid_namespace = order_.containment == to_string(ContainmentKind::kPidNamespace)});
    } catch (const std::system_error& error) {
      outcome_.cause = GuardCause::kNotStarted;
      outcome_.error = error.what();
      return false;
    }
    return true;
  }

  void wait_once() {
    std::array<pollfd, 2> fds{pollfd{control_open_ ? control_fd_ : -1, POLLIN, 0},
                              pollfd{signals_.get(), POLLIN, 0}};
    int timeout = -1;
    if (kill_at_) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(*kill_at_ - Steady::now());
      timeout = static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    }
    ::poll(fds.data(), fds.size(), timeout);
    if (fds[1].revents != 0) take_signals();
    // Read after reaping: whether the agent was alive when mpirun ended decides what it meant.
    if (fds[0].revents != 0 || ended_) take_control();
    if (!ended_ && kill_at_ && Steady::now() >= *kill_at_) kill_now();
  }

  void take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGTERM) begin_stop(GuardCause::kStopped);
    }
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != mpirun_) continue;  // an orphan of the run: it came to us as subreaper
      ended_ = true;
      const ExitStatus exit = exit_status_of(status);
      outcome_.signal = exit.signal;
      if (exit.signal == 0) outcome_.exit_code = exit.code;
    }
  }

  void take_control() {
    std::array<char, 16> bytes{};
    pollfd fd{control_fd_, POLLIN, 0};
    while (control_open_ && ::poll(&fd, 1, 0) > 0) {
      const ssize_t n = ::read(control_fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        control_open_ = false;
        begin_stop(GuardCause::kAgentDied);
      }
      for (ssize_t i = 0; i < n; ++i) {
        begin_stop(GuardCause::kStopped);
        if (bytes[static_cast<std::size_t>(i)] == 'k') kill_at_ = Steady::now();
      }
    }
  }

  void begin_stop(GuardCause cause) {
    if (outcome_.cause != GuardCause::kExited) return;
    outcome_.cause = cause;
    if (ended_) return;
    ::kill(mpirun_, SIGTERM);
    kill_at_ = Steady::now() + std::chrono::milliseconds(order_.grace_ms);
  }

  void kill_now() {
    kill_at_.reset();
    ::kill(mpirun_, SIGKILL);  // alone reaches a namespace's init; the rest goes in the final sweep
    for (const pid_t pid : containment_of(order_).kill_pass()) ::kill(pid, SIGKILL);
  }

  const GuardOrder& order_;
  int control_fd_;
  UniqueFd signals_;
  pid_t mpirun_ = 0;
  bool ended_ = false, control_open_ = true;
  std::optional<Steady::time_point> kill_at_;
  GuardOutcome outcome_;
};

}  // namespace

Containment containment_of(const GuardOrder& order) {
  return {containment_kind_from(order.containment).value_or(ContainmentKind::kProcSweep),
          order.cgroup,
          {order.run_id, order.agent_mark}};
}

void write_guard_order(const fs::path& run_folder, const GuardOrder& order) {
  write_described(run_folder / kOrderFile, order);
}

std::optional<GuardOrder> read_guard_order(const fs::path& run_folder) {
  return read_described<GuardOrder>(run_folder / kOrderFile);
}

std::optional<GuardOutcome> read_guard_outcome(const fs::path& run_folder) {
  return read_described<GuardOutcome>(run_folder / kOutcomeFile);
}

void remove_scratch(const fs::path& scratch) {
  if (!scratch.is_absolute() || !scratch.filename().string().starts_with("rackmark-")) return;
  std::error_code error;
  fs::remove_all(scratch, error);
}

int guard_main(const fs::path& run_folder) {
  ::signal(SIGPIPE, SIG_IGN);  // the agent, reader of our standard error, may be gone
  ::signal(SIGHUP, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const auto order = read_guard_order(run_folder);
  if (!order) {
    std::fprintf(stderr, "rackmark-agent guard: %s/%s is missing or broken\n", run_folder.c_str(),
                 kOrderFile);
    return 1;
  }
  GuardOutcome outcome = Watch(*order, STDIN_FILENO).run();
  const Containment containment = containment_of(*order);
  outcome.empty = kill_until_empty(containment, kEmptyWithinMs);
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  containment.remove();
  if (!order->scratch.empty()) remove_scratch(order->scratch);
  outcome.ended_at = rfc3339(SystemClock().wall_us());
  try {
    write_described(run_folder / kOutcomeFile, outcome);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-agent guard: %s\n", error.what());
    return 1;
  }
  return 0;
}

GuardedProcess start_guard(const std::string& program, const fs::path& run_folder) {
  Pipe control = make_pipe(), out = make_pipe(), err = make_pipe();
  ::fcntl(out.write.get(), F_SETPIPE_SZ, 1 << 20);
  std::vector<std::string> environment{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"};
  for (const char* name : {"LD_LIBRARY_PATH", "ASAN_OPTIONS"}) {
    if (const char* value = std::getenv(name))
      environment.push_back(std::string(name) + "=" + value);
  }
  GuardedProcess guard;
  guard.pid = spawn({.argv = {program, "guard", run_folder.string()},
                     .environment = std::move(environment),
                     .folder = "/",
                     .stdin_fd = control.read.get(),
                     .stdout_fd = out.write.get(),
                     .stderr_fd = err.write.get()});
  guard.ended = open_pidfd(guard.pid);
  guard.control = std::move(control.write);
  guard.out = std::move(out.read);
  guard.err = std::move(err.read);
  ::fcntl(guard.out.get(), F_SETFL, O_NONBLOCK);
  ::fcntl(guard.err.get(), F_SETFL, O_NONBLOCK);
  return guard;
}

void GuardedProcess::ask_to_stop() const {
  [[maybe_unused]] const auto n = ::write(control.get(), "s", 1);
}

void GuardedProcess::ask_to_kill() const {
  [[maybe_unused]] const auto n = ::write(control.get(), "k", 1);
}

}  // namespace rackmark::agent
