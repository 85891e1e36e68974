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

namespace {

// Who may write in it could plant an identity, or files that later are written over as us.
Result<void> make_own_folder(fs::path state) {
  if (!state.has_filename()) state = state.parent_path();  // "x/" is "x"
  const auto unusable = [&state](const std::string& why) {
    return Error{ErrorCode::kUnavailable, "the state folder " + state.string() + " " + why, {}};
  };
  std::error_code error;
  fs::create_directories(state.parent_path(), error);
  if (error) return unusable("cannot be made: " + error.message());
  if (::mkdir(state.c_str(), 0700) != 0 && errno != EEXIST)
    return unusable(std::string("cannot be made: ") + std::strerror(errno));
  struct stat info {};
  if (::stat(state.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    return unusable("is not a folder");
  if (info.st_uid != ::geteuid())
    return unusable(
        fmt::format("belongs to user {}, and this agent is user {}", info.st_uid, ::geteuid()));
  if ((info.st_mode & 022) != 0)
    return unusable(
        fmt::format("may be written by others (mode {:04o}); it must be this user's "
                    "alone: chmod 700, if you know what is in it",
                    info.st_mode & 07777));
  ::chmod(state.c_str(), 0700);
  return {};
}

}  // namespace

Result<UniqueFd> lock_state_folder(const fs::path& state) {
  if (auto made = make_own_folder(state); !made) return made.error();
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
