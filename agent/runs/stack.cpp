#include "agent/runs/stack.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <system_error>

#include "agent/process/files.hpp"
#include "agent/process/spawn.hpp"
#include "agent/runs/mpirun_output.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kThreads = 64, kFrames = 400, kFrameText = 300;

std::string status_field(const fs::path& folder, const std::string& name) {
  std::istringstream lines(read_file(folder / "status").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + ":")) continue;
    const auto at = line.find_first_not_of(" \t", name.size() + 1);
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

// "[<0>] do_select+0x1/0x2" -> "do_select": the newest frames, joined.
std::string kernel_stack(const fs::path& thread) {
  std::istringstream lines(read_file(thread / "stack").value_or(""));
  std::string text;
  int frames = 0;
  for (std::string line; frames < 6 && std::getline(lines, line); ++frames) {
    const auto begin = line.find(' ');
    const std::string name = begin == std::string::npos ? line : line.substr(begin + 1);
    text += (text.empty() ? "" : " < ") + name.substr(0, name.find('+'));
  }
  if (!text.empty()) return text;
  const std::string place = read_file(thread / "wchan").value_or("");
  return place == "0" ? "" : place;
}

}  // namespace

std::string process_state(pid_t pid) {
  return pid > 0 ? status_field(fs::path("/proc") / std::to_string(pid), "State") : "";
}

std::vector<std::string> kernel_view(pid_t pid) {
  std::vector<std::string> lines;
  std::error_code error;
  const fs::path tasks = fs::path("/proc") / std::to_string(pid) / "task";
  for (fs::directory_iterator it(tasks, error), end; !error && it != end; it.increment(error)) {
    if (lines.size() >= kThreads) break;
    const std::string where = kernel_stack(it->path());
    lines.push_back(valid_utf8(fmt::format(
        "thread {} {}: {}{}{}", it->path().filename().string(), status_field(it->path(), "Name"),
        status_field(it->path(), "State"), where.empty() ? "" : ", in ", where)));
  }
  return lines;
}

StackTrace::StackTrace(pid_t pid, fs::path file) : file_(std::move(file)) {
  const UniqueFd out(::open(file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!out || pid <= 0) return;
  try {
    gdb_ = spawn({.argv = {"gdb", "-nx", "-batch", "-iex", "set auto-load off", "-iex",
                           "set debuginfod enabled off", "-p", std::to_string(pid), "-ex",
                           "thread apply all backtrace 24"},
                  .environment = {"PATH=/usr/bin:/bin:/usr/local/bin", "LC_ALL=C.UTF-8"},
                  .folder = "/",
                  .stdout_fd = out.get()});
  } catch (const std::system_error&) {
    gdb_ = 0;  // there is none
  }
}

bool StackTrace::running() {
  if (gdb_ != 0 && ::waitpid(gdb_, nullptr, WNOHANG) == gdb_) gdb_ = 0;
  return gdb_ != 0;
}

void StackTrace::stop() {
  if (!running()) return;
  ::kill(-gdb_, SIGKILL);  // a session of its own
  ::waitpid(gdb_, nullptr, 0);
  gdb_ = 0;
}

std::vector<std::string> StackTrace::lines() const {
  std::vector<std::string> lines;
  std::istringstream text(read_file(file_, std::size_t{4} << 20).value_or(""));
  for (std::string line; lines.size() < kFrames && std::getline(text, line);) {
    if (line.starts_with("#") || line.starts_with("Thread "))
      lines.push_back(valid_utf8(line.substr(0, kFrameText)));
  }
  return lines;
}

}  // namespace rackmark::agent
