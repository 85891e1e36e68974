#include "common/host/cpu_quota.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "common/host/cgroups.hpp"

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

}  // namespace

std::optional<CpuQuota> cpu_quota(const std::string& root) {
  std::optional<CpuQuota> smallest;
  visit_cgroups(root, "cpu", [&](const Cgroup& group) {
    const auto cpus = group.version == 2 ? quota_of_v2(group.folder) : quota_of_v1(group.folder);
    if (cpus && (!smallest || *cpus < smallest->cpus)) {
      smallest = {*cpus, throttled_s(group.folder)};
    }
  });
  return smallest;
}

std::int64_t cores_within(const std::optional<CpuQuota>& quota, std::int64_t cores) {
  if (!quota || quota->cpus >= static_cast<double>(cores)) return cores;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::floor(quota->cpus)));
}

}  // namespace rackmark
