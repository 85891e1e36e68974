#include "controller/service/hosts_seen.hpp"

#include <algorithm>
#include <utility>

#include "common/measure/statistics.hpp"

namespace rackmark::service {

std::vector<HostSeen> hosts_seen(const Summaries& workers, const Summaries& servers) {
  std::map<std::string, HostSeen> hosts;
  for (const Summaries* group : {&workers, &servers}) {
    for (const auto& [rank, summary] : *group) {
      if (!summary.host) return {};
      HostSeen& host = hosts[summary.host->boot_id];
      host.own_cpu_s += summary.host->own_cpu_s;
      const double window_s = static_cast<double>(summary.end_ns - summary.start_ns) * 1e-9;
      const bool workers_say = group == &servers && host.window_s > 0;
      if (workers_say || window_s < host.window_s) continue;
      host.use = *summary.host;
      host.window_s = window_s;
    }
  }
  std::vector<HostSeen> out;
  for (auto& [boot_id, host] : hosts) out.push_back(std::move(host));
  return out;
}

std::optional<double> foreign_cpu_fraction(const std::vector<HostSeen>& hosts) {
  std::optional<double> most;
  for (const HostSeen& host : hosts) {
    if (!host.use.cpu_s || !host.use.cpu_capacity_s) continue;
    const auto fraction =
        measure::foreign_cpu_fraction(*host.use.cpu_s, host.own_cpu_s, *host.use.cpu_capacity_s);
    if (fraction) most = std::max(most.value_or(0), *fraction);
  }
  return most;
}

std::optional<double> quota_throttled_fraction(const std::vector<HostSeen>& hosts) {
  std::optional<double> most;
  for (const HostSeen& host : hosts) {
    const double granted_s = host.use.quota_cpus.value_or(0) * host.window_s;
    if (!host.use.quota_throttled_s || !(granted_s > 0)) continue;
    most = std::max(most.value_or(0), *host.use.quota_throttled_s / granted_s);
  }
  return most;
}

std::optional<double> package_power_w(const std::vector<HostSeen>& hosts) {
  double sum = 0;
  for (const HostSeen& host : hosts) {
    if (!host.use.package_energy_j || !(host.window_s > 0)) return std::nullopt;
    sum += *host.use.package_energy_j / host.window_s;
  }
  if (!(sum > 0)) return std::nullopt;
  return sum;
}

std::optional<bool> governor_changed(const std::vector<HostSeen>& hosts) {
  std::optional<bool> changed;
  for (const HostSeen& host : hosts) {
    const auto &before = host.use.governor_before, &after = host.use.governor_after;
    if (before && after) changed = changed.value_or(false) || *before != *after;
  }
  return changed;
}

}  // namespace rackmark::service
