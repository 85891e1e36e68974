#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <sstream>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "agent/probe/inventory.hpp"
#include "agent/process/files.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

namespace {

std::string first_line(const fs::path& path) {
  const std::string text = read_file(path).value_or("");
  return text.substr(0, text.find('\n'));
}

// The signature that hypervisors put into CPUID leaf 0x40000000.
std::string hypervisor() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & (1U << 31)) == 0) return "none";
  __cpuid(0x40000000, a, b, c, d);
  std::array<char, 13> signature{};
  std::memcpy(signature.data(), &b, 4);
  std::memcpy(signature.data() + 4, &c, 4);
  std::memcpy(signature.data() + 8, &d, 4);
  const std::string name = signature.data();
  if (name == "KVMKVMKVM") return "kvm";
  if (name == "Microsoft Hv") return "hyperv";
  if (name == "VMwareVMware") return "vmware";
  if (name == "XenVMMXenVMM") return "xen";
  if (name == "TCGTCGTCGTCG") return "qemu";
  return "unknown";
#else
  return "unknown";
#endif
}

bool in_container() {
  std::error_code error;
  if (fs::exists("/.dockerenv", error) || fs::exists("/run/.containerenv", error)) return true;
  const std::string init = read_file("/proc/1/environ").value_or("");
  return init.starts_with("container=") ||
         init.find(std::string("\0container=", 11)) != std::string::npos;
}

int prefix_of(const sockaddr* mask) {
  if (mask == nullptr) return -1;
  int bits = 0;
  if (mask->sa_family == AF_INET) {
    bits = std::popcount(reinterpret_cast<const sockaddr_in*>(mask)->sin_addr.s_addr);
  } else {
    for (const unsigned char byte : reinterpret_cast<const sockaddr_in6*>(mask)->sin6_addr.s6_addr)
      bits += std::popcount(byte);
  }
  return bits;
}

std::string cidr(const ifaddrs& entry) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = entry.ifa_addr->sa_family;
  const void* address = family == AF_INET
                            ? static_cast<const void*>(
                                  &reinterpret_cast<const sockaddr_in*>(entry.ifa_addr)->sin_addr)
                            : &reinterpret_cast<const sockaddr_in6*>(entry.ifa_addr)->sin6_addr;
  if (::inet_ntop(family, address, text.data(), text.size()) == nullptr) return {};
  return fmt::format("{}/{}", text.data(), prefix_of(entry.ifa_netmask));
}

}  // namespace

std::string os_name(std::string_view os_release) {
  std::istringstream lines{std::string(os_release)};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("PRETTY_NAME=")) continue;
    std::string name = line.substr(12);
    std::erase(name, '"');
    return name;
  }
  return "unknown";
}

std::string virtualization() {
  const std::string machine = hypervisor();
  if (!in_container()) return machine;
  return machine == "none" ? "container" : machine + ", container";
}

std::optional<std::string> governor(const fs::path& cpus) {
  std::set<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(cpus, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("cpu") || name.size() < 4 ||
        std::isdigit(static_cast<unsigned char>(name[3])) == 0)
      continue;
    const std::string one = first_line(it->path() / "cpufreq" / "scaling_governor");
    if (!one.empty()) found.insert(one);
  }
  if (found.empty()) return std::nullopt;
  return found.size() == 1 ? *found.begin() : "mixed";
}

std::vector<std::string> addresses() {
  std::vector<std::string> found;
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return found;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(raw, ::freeifaddrs);
  for (const ifaddrs* entry = raw; entry != nullptr; entry = entry->ifa_next) {
    const bool usable = entry->ifa_addr != nullptr && (entry->ifa_flags & IFF_UP) != 0 &&
                        (entry->ifa_flags & IFF_LOOPBACK) == 0;
    if (!usable) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    if (std::string text = cidr(*entry); !text.empty()) found.push_back(std::move(text));
  }
  return found;
}

std::int64_t memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<std::int64_t>(pages) * size : 0;
}

std::int64_t free_disk_bytes(const fs::path& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return 0;
  return static_cast<std::int64_t>(info.f_bavail) * static_cast<std::int64_t>(info.f_frsize);
}

protocol::Inventory probe(const ProbeInput& input) {
  protocol::Inventory inventory;
  utsname names{};
  if (::uname(&names) == 0) {
    inventory.hostname = names.nodename;
    inventory.kernel = std::string(names.sysname) + " " + names.release;
  }
  inventory.os = os_name(read_file("/etc/os-release").value_or(""));
  inventory.virtualization = virtualization();
  inventory.cpu = parse_cpuinfo(read_file("/proc/cpuinfo", std::size_t{64} << 20).value_or(""));
  probe_topology(inventory, cpu_quota());
  inventory.memory_bytes = memory_bytes();
  inventory.governor = governor();
  inventory.addresses = addresses();
  inventory.versions = versions(input.worker);
  probe_gpus(inventory);
  inventory.data_roots = input.data_roots;
  inventory.containment = to_string(input.containment);
  inventory.free_disk_bytes = free_disk_bytes(input.state);
  inventory.slurm = usable_slurm_allocation();
  return inventory;
}

bool is_news(protocol::Inventory now, const protocol::Inventory& told) {
  if (std::abs(now.free_disk_bytes - told.free_disk_bytes) <= told.free_disk_bytes / 10)
    now.free_disk_bytes = told.free_disk_bytes;
  return json::encode(now) != json::encode(told);
}

}  // namespace rackmark::agent
