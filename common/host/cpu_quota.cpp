#include "common/host/cpu_quota.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>

namespace rackmark {

namespace {

// v2: "400000 100000" or "max 100000", microseconds of quota and period.
std::optional<double> quota_of_v2(const std::string& folder) {
  std::ifstream in(folder + "/cpu.max");
  double quota = 0, period = 0;
  if (in >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

// v1: -1 is no quota.
std::optional<double> quota_of_v1(const std::string& folder) {
  std::ifstream quota_in(folder + "/cpu.cfs_quota_us"), period_in(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (quota_in >> quota && period_in >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

double throttled_s(const std::string& folder) {
  std::ifstream in(folder + "/cpu.stat");
  std::string name;
  double value = 0;
  while (in >> name >> value) {
    if (name == "throttled_usec") return value * 1e-6;  // v2
    if (name == "throttled_time") return value * 1e-9;  // v1
  }
  return 0;
}

// `group` is a path such as "/a/b"; its quota and those of "/a" and "/" all hold.
void consider_groups(std::optional<CpuQuota>& smallest, const std::string& mount, std::string group,
                     std::optional<double> (*quota_of)(const std::string&)) {
  for (;;) {
    const std::string folder = mount + group;
    const auto cpus = quota_of(folder);
    if (cpus && (!smallest || *cpus < smallest->cpus)) smallest = {*cpus, throttled_s(folder)};
    if (group.empty() || group == "/") return;
    group.resize(group.rfind('/'));
  }
}

}  // namespace

std::optional<CpuQuota> cpu_quota(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::optional<CpuQuota> smallest;
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // id:controllers:path
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      consider_groups(smallest, mount, path, quota_of_v2);
      consider_groups(smallest, mount + "/unified", path, quota_of_v2);
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      consider_groups(smallest, mount + "/cpu", path, quota_of_v1);
    }
  }
  return smallest;
}

std::int64_t cores_within(const std::optional<CpuQuota>& quota, std::int64_t cores) {
  if (!quota || quota->cpus >= static_cast<double>(cores)) return cores;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::floor(quota->cpus)));
}

}  // namespace rackmark
