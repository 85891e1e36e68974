#include "agent/process/spawn.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <sstream>
#include <system_error>

#include "agent/process/files.hpp"

namespace rackmark::agent {

namespace {

// What the child needs, made before the fork: between fork and exec only async-signal-safe calls.
struct Prepared {
  std::string program;
  std::vector<char*> argv, environment;
  const SpawnRequest* request = nullptr;
  int error_fd = -1;
  pid_t parent = 0;
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const auto& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

std::string value_of(const std::vector<std::string>& environment, const std::string& name) {
  for (const auto& entry : environment)
    if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
  return {};
}

[[noreturn]] void report_and_exit(const Prepared& p) {
  const int error = errno;
  [[maybe_unused]] const auto n = ::write(p.error_fd, &error, sizeof error);
  ::_exit(127);
}

void put_at(int fd, int target, const Prepared& p) {
  int from = fd;
  if (from < 0) from = ::open("/dev/null", O_RDWR);
  if (from < 0) report_and_exit(p);
  if (from == target) {
    ::fcntl(from, F_SETFD, 0);
  } else if (::dup2(from, target) < 0) {
    report_and_exit(p);
  }
}

void reset_signals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int s = 1; s < NSIG; ++s) ::sigaction(s, &standard, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void exec_program(const Prepared& p) {
  const SpawnRequest& r = *p.request;
  if (!r.folder.empty() && ::chdir(r.folder.c_str()) != 0) report_and_exit(p);
  // Moved out of the way first, so that no source descriptor is overwritten by an earlier target.
  const int in = r.stdin_fd < 0 ? -1 : ::fcntl(r.stdin_fd, F_DUPFD_CLOEXEC, 3);
  const int out = r.stdout_fd < 0 ? -1 : ::fcntl(r.stdout_fd, F_DUPFD_CLOEXEC, 3);
  const int err = r.stderr_fd < 0 ? -1 : ::fcntl(r.stderr_fd, F_DUPFD_CLOEXEC, 3);
  put_at(in, 0, p);
  put_at(out, 1, p);
  put_at(err, 2, p);
  // Others' libraries may have opened files without close-on-exec.
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  reset_signals();
  ::execve(p.program.c_str(), p.argv.data(), p.environment.data());
  report_and_exit(p);
}

void enter_place(const Prepared& p) {
  const SpawnRequest& r = *p.request;
  if (r.new_session) ::setsid();
  if (r.death_signal != 0) {
    ::prctl(PR_SET_PDEATHSIG, r.death_signal, 0, 0, 0);
    // The parent may have died before the line above. In a namespace it is not visible (0).
    const pid_t parent = ::getppid();
    if (parent != p.parent && parent != 0) ::_exit(127);
  }
  if (r.cgroup_procs_fd >= 0 && ::write(r.cgroup_procs_fd, "0", 1) != 1) report_and_exit(p);
}

// PID 1 of the namespace: starts the program, reaps everything, leaves with the program's status.
// When it ends, for whatever reason, the kernel kills all that is left in the namespace.
[[noreturn]] void run_as_init(const Prepared& p) {
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  const pid_t program = ::fork();
  if (program < 0) report_and_exit(p);
  if (program == 0) exec_program(p);
  ::close(p.error_fd);
  reset_signals();
  struct sigaction forward {};
  static pid_t target = 0;
  target = program;
  forward.sa_handler = [](int s) { ::kill(target, s); };
  ::sigaction(SIGTERM, &forward, nullptr);
  while (true) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended == program) {
      ::_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    }
    if (ended < 0 && errno != EINTR) ::_exit(127);
  }
}

pid_t fork_into(const SpawnRequest& request) {
  if (!request.pid_namespace) return ::fork();
  return static_cast<pid_t>(
      ::syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, nullptr, nullptr, nullptr, 0UL));
}

}  // namespace

pid_t spawn(const SpawnRequest& request) {
  Prepared p;
  const auto program = find_program(request.argv.at(0), value_of(request.environment, "PATH"));
  if (!program)
    throw std::system_error(ENOENT, std::generic_category(), "cannot start " + request.argv[0]);
  p.program = *program;
  p.argv = pointers(request.argv);
  p.environment = pointers(request.environment);
  p.request = &request;
  p.parent = ::getpid();
  Pipe error = make_pipe();
  p.error_fd = error.write.get();

  const pid_t child = fork_into(request);
  if (child < 0)
    throw std::system_error(errno, std::generic_category(), "cannot fork for " + request.argv[0]);
  if (child == 0) {
    enter_place(p);
    if (request.pid_namespace) run_as_init(p);
    exec_program(p);
  }
  error.write.reset();
  int code = 0;
  ssize_t n = 0;
  do {
    n = ::read(error.read.get(), &code, sizeof code);
  } while (n < 0 && errno == EINTR);
  if (n == 0) return child;  // the pipe closed on exec
  ::waitpid(child, nullptr, 0);
  throw std::system_error(code, std::generic_category(), "cannot start " + request.argv[0]);
}

int replace_process(const std::vector<std::string>& argv,
                    const std::vector<std::string>& environment) {
  if (argv.empty()) return EINVAL;
  const auto program = find_program(argv.front(), value_of(environment, "PATH"));
  if (!program) return ENOENT;
  ::execve(program->c_str(), pointers(argv).data(), pointers(environment).data());
  return errno;
}

ExitStatus exit_status_of(int wait_status) {
  if (WIFSIGNALED(wait_status)) return {0, WTERMSIG(wait_status)};
  return {WEXITSTATUS(wait_status), 0};
}

std::string describe(const ExitStatus& status) {
  if (status.signal == 0) return "exit status " + std::to_string(status.code);
  return "signal " + std::to_string(status.signal) + " (" + ::strsignal(status.signal) + ")";
}

std::optional<std::string> find_program(const std::string& program, const std::string& path) {
  auto runnable = [](const std::string& file) {
    struct stat info {};
    return ::stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
           ::access(file.c_str(), X_OK) == 0;
  };
  if (program.find('/') != std::string::npos) {
    if (runnable(program)) return program;
    return std::nullopt;
  }
  std::stringstream folders(path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string file = folder + "/" + program;
    if (!folder.empty() && runnable(file)) return file;
  }
  return std::nullopt;
}

UniqueFd open_pidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
}

Captured capture(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                 int timeout_ms, std::size_t limit) {
  Captured result;
  Pipe out = make_pipe();
  pid_t child = 0;
  try {
    child = spawn({.argv = argv, .environment = environment, .stdout_fd = out.write.get()});
  } catch (const std::system_error&) {
    return result;
  }
  result.started = true;
  out.write.reset();
  using Steady = std::chrono::steady_clock;
  const auto deadline = Steady::now() + std::chrono::milliseconds(timeout_ms);
  UniqueFd ended = open_pidfd(child);
  std::array<char, 8192> buffer{};
  bool open = true, alive = true;
  while (alive || open) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Steady::now()).count();
    if (left <= 0) break;
    std::array<pollfd, 2> fds{pollfd{open ? out.read.get() : -1, POLLIN, 0},
                              pollfd{alive ? ended.get() : -1, POLLIN, 0}};
    // A grandchild may hold the pipe: once the program has ended, wait only a moment for the rest.
    const int ready = ::poll(fds.data(), fds.size(), alive ? static_cast<int>(left) : 50);
    if (ready == 0 && !alive) break;
    if (fds[0].revents != 0) {
      const ssize_t n = ::read(out.read.get(), buffer.data(), buffer.size());
      if (n <= 0) open = false;
      if (n > 0 && result.out.size() < limit)
        result.out.append(buffer.data(), static_cast<std::size_t>(n));
    }
    if (fds[1].revents != 0) alive = false;
  }
  if (alive) {
    result.timed_out = true;
    ::kill(-child, SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  result.status = exit_status_of(status);
  if (result.out.size() > limit) result.out.resize(limit);
  return result;
}

std::optional<std::uint64_t> start_ticks(pid_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return std::nullopt;
  const auto name_end = text->rfind(')');  // the name may hold blanks and parentheses
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text->substr(name_end + 1));
  std::string field;
  fields >> field;
  if (field == "Z" || field == "X") return std::nullopt;
  for (int i = 4; i <= 22; ++i) fields >> field;
  return std::stoull(field);
}

}  // namespace rackmark::agent
