#include "agent/runs/host_facts.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "agent/process/files.hpp"

namespace rackmark::agent {

std::map<std::string, std::string> own_environment() {
  std::map<std::string, std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (const auto at = text.find('='); at != std::string::npos)
      out[text.substr(0, at)] = text.substr(at + 1);
  }
  return out;
}

std::int64_t memory_killer_count() {
  std::istringstream lines(read_file("/proc/vmstat").value_or(""));
  std::string name;
  std::int64_t value = 0;
  while (lines >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

bool affinity_is_restricted() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  return CPU_COUNT(&allowed) < ::sysconf(_SC_NPROCESSORS_ONLN);
}

// FNV-1a over the folder's real path: stable over restarts and builds, unlike std::hash.
std::string mark_of(const std::string& state_folder) {
  std::error_code error;
  const auto real = std::filesystem::weakly_canonical(state_folder, error);
  const std::string path = error ? state_folder : real.string();
  std::uint64_t hash = 1469598103934665603ULL;
  for (const char c : path) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211ULL;
  }
  return fmt::format("{:08x}", static_cast<std::uint32_t>(hash ^ (hash >> 32)));
}

}  // namespace rackmark::agent
