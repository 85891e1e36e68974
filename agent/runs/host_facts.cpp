#include "agent/runs/host_facts.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <sched.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <memory>
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

std::string interface_in(const std::string& network) {
  const auto slash = network.find('/');
  in_addr wanted{};
  unsigned bits = 0;
  if (slash == std::string::npos ||
      ::inet_pton(AF_INET, network.substr(0, slash).c_str(), &wanted) != 1)
    return "";
  std::from_chars(network.data() + slash + 1, network.data() + network.size(), bits);
  const std::uint32_t mask = bits == 0 || bits > 32 ? 0 : htonl(~std::uint32_t{0} << (32 - bits));
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return "";
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(raw, ::freeifaddrs);
  for (const ifaddrs* entry = raw; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    const auto& own = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr;
    if ((own.s_addr & mask) == (wanted.s_addr & mask)) return entry->ifa_name;
  }
  return "";
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
