#include "agent/loops/identity.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/process/files.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

Result<std::optional<Identity>> read_identity(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return std::optional<Identity>();
  const auto broken = [&] {
    return Error{ErrorCode::kInvalid,
                 file.string() + " is not an agent's identity; remove it and enrol again",
                 {}};
  };
  const auto text = read_file(file);
  if (!text) return broken();
  const auto parsed = json::parse(*text);
  if (!parsed) return broken();
  auto identity = json::decode<Identity>(*parsed, json::Unknown::kIgnore);
  if (!identity || identity->agent_id <= 0 || identity->agent_token.empty()) return broken();
  return std::optional<Identity>(std::move(*identity));
}

void write_identity(const fs::path& file, const Identity& identity) {
  write_file_atomically(file, json::encode(identity).dump(1) + "\n", 0600);
}

Result<UniqueFd> lock_state_folder(const fs::path& state) {
  std::error_code error;
  fs::create_directories(state, error);
  if (error)
    return Error{ErrorCode::kUnavailable,
                 "cannot make the state folder " + state.string() + ": " + error.message(),
                 {}};
  ::chmod(state.c_str(), 0700);
  const fs::path file = state / "lock";
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd)
    return Error{ErrorCode::kUnavailable,
                 "cannot write in the state folder " + state.string() + ": " + std::strerror(errno),
                 {}};
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    std::string holder = read_file(file).value_or("");
    while (!holder.empty() && holder.back() == '\n') holder.pop_back();
    return Error{ErrorCode::kConflict,
                 fmt::format("the state folder {} is in use by another rackmark-agent (pid {})",
                             state.string(), holder.empty() ? "unknown" : holder),
                 {}};
  }
  [[maybe_unused]] const int cut = ::ftruncate(fd.get(), 0);
  const std::string pid = fmt::format("{}\n", ::getpid());
  [[maybe_unused]] const auto n = ::pwrite(fd.get(), pid.data(), pid.size(), 0);
  return fd;
}

std::string make_incarnation(std::int64_t wall_us, int pid) {
  return fmt::format("{:014}-{:07}", wall_us / 1000, pid);
}

std::string read_boot_id() {
  std::string id = read_file("/proc/sys/kernel/random/boot_id").value_or("unknown");
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

}  // namespace rackmark::agent
