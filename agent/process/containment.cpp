#include "agent/process/containment.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <memory>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>

#include "agent/process/files.hpp"
#include "agent/process/spawn.hpp"
#include "agent/process/unique_fd.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

namespace {

bool write_text(const fs::path& path, std::string_view text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::vector<fs::path> with_subfolders(const fs::path& cgroup) {  // deepest first
  std::vector<fs::path> found{cgroup};
  std::error_code error;
  for (fs::recursive_directory_iterator it(cgroup, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_directory(error)) found.push_back(it->path());
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    return a.string().size() > b.string().size();
  });
  return found;
}

std::vector<pid_t> cgroup_members(const fs::path& cgroup) {
  std::vector<pid_t> pids;
  for (const auto& folder : with_subfolders(cgroup)) {
    std::istringstream lines(read_file(folder / "cgroup.procs").value_or(""));
    for (pid_t pid = 0; lines >> pid;) {
      if (pid > 0 && start_ticks(pid)) pids.push_back(pid);
    }
  }
  return pids;
}

bool cgroup_populated(const fs::path& cgroup) {
  const auto events = read_file(cgroup / "cgroup.events");
  return events && events->find("populated 1") != std::string::npos;
}

bool try_cgroup() {
  const auto base = own_cgroup(read_file("/proc/self/mounts").value_or(""),
                               read_file("/proc/self/cgroup").value_or(""));
  if (!base) return false;
  const fs::path trial = *base / ("rackmark-trial-" + std::to_string(::getpid()));
  std::error_code error;
  if (!fs::create_directory(trial, error)) return false;
  // Being able to make a folder is not enough: a process must be able to move into it.
  UniqueFd procs(::open((trial / "cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  bool works = false;
  if (procs) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(::write(procs.get(), "0", 1) == 1 ? 0 : 1);
    int status = 1;
    works = child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
  }
  fs::remove(trial, error);
  return works;
}

bool try_pid_namespace() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::unshare(CLONE_NEWPID | CLONE_NEWNS) == 0 ? 0 : 1);
  int status = 1;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

// True when `block` (NUL-separated, as in /proc/PID/environ) has exactly this entry.
bool has_entry(std::string_view block, std::string_view entry) {
  for (std::size_t at = 0; at < block.size();) {
    const std::size_t end = std::min(block.find('\0', at), block.size());
    if (block.substr(at, end - at) == entry) return true;
    at = end + 1;
  }
  return false;
}

}  // namespace

std::string to_string(ContainmentKind kind) {
  switch (kind) {
    case ContainmentKind::kCgroupV2:
      return "cgroup_v2";
    case ContainmentKind::kPidNamespace:
      return "pid_namespace";
    case ContainmentKind::kProcSweep:
      break;
  }
  return "proc_sweep";
}

std::optional<ContainmentKind> containment_kind_from(const std::string& name) {
  for (const auto kind :
       {ContainmentKind::kCgroupV2, ContainmentKind::kPidNamespace, ContainmentKind::kProcSweep}) {
    if (to_string(kind) == name) return kind;
  }
  return std::nullopt;
}

std::optional<fs::path> own_cgroup(const std::string& mounts, const std::string& membership) {
  std::string mount, path;
  std::istringstream mount_lines(mounts);
  for (std::string line; mount.empty() && std::getline(mount_lines, line);) {
    std::istringstream fields(line);
    std::string device, folder, kind;
    if (fields >> device >> folder >> kind && kind == "cgroup2") mount = folder;
  }
  std::istringstream membership_lines(membership);
  for (std::string line; std::getline(membership_lines, line);) {
    if (line.starts_with("0::")) path = line.substr(3);
  }
  if (mount.empty() || path.empty()) return std::nullopt;
  // Outside of this cgroup namespace's root: nothing there is ours.
  if (path.starts_with("/..")) return std::nullopt;
  return fs::path(mount + (path == "/" ? "" : path));
}

ContainmentKind detect_containment() {
  if (try_cgroup()) return ContainmentKind::kCgroupV2;
  if (try_pid_namespace()) return ContainmentKind::kPidNamespace;
  return ContainmentKind::kProcSweep;
}

std::vector<pid_t> marked_processes(const RunMark& mark) {
  std::vector<pid_t> found;
  const std::string run = mark.run_entry(), agent = mark.agent_entry();
  std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  if (!proc) return found;
  while (const dirent* entry = ::readdir(proc.get())) {
    if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) == 0) continue;
    const pid_t pid = static_cast<pid_t>(std::stol(entry->d_name));
    if (pid == ::getpid()) continue;
    const auto environ_block = read_file(fs::path("/proc") / entry->d_name / "environ");
    if (environ_block && has_entry(*environ_block, run) && has_entry(*environ_block, agent) &&
        start_ticks(pid))
      found.push_back(pid);
  }
  return found;
}

Containment Containment::create(ContainmentKind kind, RunMark mark) {
  Containment made{kind, {}, std::move(mark)};
  if (kind != ContainmentKind::kCgroupV2) return made;
  const auto base = own_cgroup(read_file("/proc/self/mounts").value_or(""),
                               read_file("/proc/self/cgroup").value_or(""));
  std::error_code error;
  if (base) {
    made.cgroup =
        *base / ("rackmark-" + made.mark.agent + "-run-" + std::to_string(made.mark.run_id));
    fs::create_directory(made.cgroup, error);
  }
  if (!base || error) {
    made.kind = ContainmentKind::kProcSweep;
    made.cgroup.clear();
  }
  return made;
}

std::vector<pid_t> Containment::members() const {
  std::vector<pid_t> pids = marked_processes(mark);
  // cgroup.procs is read only when somebody is inside: cgroup.events is one small file.
  if (kind == ContainmentKind::kCgroupV2 && cgroup_populated(cgroup)) {
    const auto inside = cgroup_members(cgroup);
    pids.insert(pids.end(), inside.begin(), inside.end());
    std::sort(pids.begin(), pids.end());
    pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  }
  return pids;
}

std::vector<pid_t> Containment::kill_pass() const {
  const std::vector<pid_t> pids = members();
  // cgroup.kill is atomic against forks; kernels before 5.14 have no such file.
  if (kind == ContainmentKind::kCgroupV2) write_text(cgroup / "cgroup.kill", "1");
  for (const pid_t pid : pids) ::kill(pid, SIGKILL);
  return pids;
}

void Containment::remove() const {
  if (kind != ContainmentKind::kCgroupV2 || cgroup.empty()) return;
  // A process that is already a zombie may still be leaving its cgroup: rmdir is busy for a moment.
  for (int attempt = 0; attempt < 100; ++attempt) {
    for (const auto& folder : with_subfolders(cgroup)) ::rmdir(folder.c_str());
    std::error_code error;
    if (!fs::exists(cgroup, error)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

bool kill_until_empty(const Containment& containment, int timeout_ms) {
  using Steady = std::chrono::steady_clock;
  const auto deadline = Steady::now() + std::chrono::milliseconds(timeout_ms);
  while (true) {
    const auto hit = containment.kill_pass();
    for (const pid_t pid : hit) ::waitpid(pid, nullptr, WNOHANG);
    if (hit.empty()) return true;
    if (Steady::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace rackmark::agent
