#include "agent/runs/host_facts.hpp"

#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "agent/process/files.hpp"
#include "agent/process/short_hash.hpp"

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

std::string mark_of(const std::string& state_folder) {
  std::error_code error;
  const auto real = std::filesystem::weakly_canonical(state_folder, error);
  return short_hash(error ? state_folder : real.string());
}

}  // namespace rackmark::agent
