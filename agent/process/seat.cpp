#include "agent/process/seat.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>

#include "agent/process/described_file.hpp"
#include "agent/process/short_hash.hpp"
#include "agent/process/spawn.hpp"
#include "agent/process/unique_fd.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSeatFile = "seat.json";
constexpr const char* kTakenFifo = "taken";
constexpr int kNotSeated = 126;
constexpr std::chrono::seconds kPatience{60};  // two syncs of an agent, generously
constexpr std::chrono::milliseconds kLookEvery{20};

std::string own_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Shared memory is open to all: another user may have made a folder of this name.
bool is_ours(const fs::path& folder) {
  struct stat info {};
  return ::lstat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         info.st_uid == ::geteuid() && (info.st_mode & 0077) == 0;
}

std::optional<Seat> find_seat(const fs::path& folder) {
  if (!is_ours(folder)) return std::nullopt;
  return read_described<Seat>(folder / kSeatFile);
}

// True once the write end is open (and stays so in the worker), or where nobody watches.
bool sit_down(const fs::path& folder) {
  const int fd = ::open((folder / kTakenFifo).c_str(), O_WRONLY | O_NONBLOCK);
  return fd >= 0 || errno == ENOENT;
}

template <class Probe>
auto look_for(Probe probe) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  auto found = probe();
  while (!found && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(kLookEvery);
    found = probe();
  }
  return found;
}

bool is_of_the_launcher(std::string_view name) {
  return name.starts_with("SLURM") || name.starts_with("PMIX_") || name.starts_with("OMPI_MCA_");
}

// The seat's entries win.
std::vector<std::string> seated_environment(const Seat& seat) {
  std::map<std::string, std::string> entries;
  const auto add = [&entries](const std::string& entry) {
    entries[entry.substr(0, entry.find('='))] = entry;
  };
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (is_of_the_launcher(*entry)) add(*entry);
  }
  for (const std::string& entry : seat.environment) add(entry);
  std::vector<std::string> out;
  for (auto& [name, entry] : entries) out.push_back(std::move(entry));
  return out;
}

int stay_standing(const std::string& why) {
  std::fprintf(stderr, "rackmark-agent: %s\n", why.c_str());
  return kNotSeated;
}

}  // namespace

std::string seat_key(const std::string& run_token) { return short_hash(run_token); }

std::string seat_mark(const std::string& key, const std::string& node) {
  return short_hash(key + "/" + node);
}

fs::path seat_folder(const std::string& mark, std::int64_t run_id) {
  return fs::path("/dev/shm") / ("rackmark-" + mark + "-" + std::to_string(run_id));
}

void make_seats(const fs::path& folder, const Seat& seat, bool watched) {
  const fs::path fifo = folder / kTakenFifo;
  if (watched && ::mkfifo(fifo.c_str(), 0600) != 0)
    throw std::system_error(errno, std::generic_category(), "mkfifo " + fifo.string());
  // Last: who finds it finds all.
  write_described(folder / kSeatFile, seat);
}

int take_seat_main() {
  const std::string run = own_variable("RACKMARK_RUN"), key = own_variable("RACKMARK_SEAT");
  const std::string node = own_variable("SLURMD_NODENAME");
  if (run.empty() || key.empty() || node.empty())
    return stay_standing("take-seat is started by srun, for a run over several nodes");
  const fs::path folder = seat_folder(seat_mark(key, node), std::strtoll(run.c_str(), nullptr, 10));
  const auto seat = look_for([&folder] { return find_seat(folder); });
  if (!seat) return stay_standing("no agent on " + node + " has prepared run " + run);
  if (!look_for([&folder] { return sit_down(folder); }))
    return stay_standing("nobody on " + node + " watches run " + run + " any more");
  const int error = replace_process(seat->argv, seated_environment(*seat));
  return stay_standing("cannot start " + (seat->argv.empty() ? "" : seat->argv.front()) + ": " +
                       std::strerror(error));
}

int watch_seats_main(const fs::path& folder) {
  const UniqueFd fifo(::open((folder / kTakenFifo).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fifo) {
    std::fprintf(stderr, "rackmark-agent: there are no seats in %s: %s\n", folder.c_str(),
                 std::strerror(errno));
    return 1;
  }
  // Nothing is ever written. The end of file comes when the last writer has gone, not before the
  // first has come.
  pollfd ranks{fifo.get(), POLLIN, 0};
  while (::poll(&ranks, 1, -1) < 0 && errno == EINTR) {
  }
  return 0;
}

}  // namespace rackmark::agent
