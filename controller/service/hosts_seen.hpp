// What the ranks of a run say of the hosts that they shared: CPU time of others, energy, governor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/protocol/worker_event.hpp"

namespace rackmark::service {

// One host: its numbers over the longest window of a rank, and all ranks' own CPU time.
struct HostSeen {
  protocol::HostUse use;
  double window_s = 0, own_cpu_s = 0;
};

using Summaries = std::map<std::int64_t, protocol::SummaryEvent>;  // by rank

// By kernel; empty as soon as one rank says nothing, as its CPU time would count as foreign.
// Dedicated parameter servers are ranks of the run too; their windows, which end later than the
// workers', count where there is no worker.
std::vector<HostSeen> hosts_seen(const Summaries& workers, const Summaries& servers);

// Of the host where it was most; null where none says.
std::optional<double> foreign_cpu_fraction(const std::vector<HostSeen>& hosts);

// Share of the CPU time that its quota grants a host for which the quota held processes back, of
// the host where it was most; null where none has a quota.
std::optional<double> quota_throttled_fraction(const std::vector<HostSeen>& hosts);

// Mean power of the CPU packages of all hosts; null as soon as one of them does not say.
std::optional<double> package_power_w(const std::vector<HostSeen>& hosts);

// On any of them; null where none says.
std::optional<bool> governor_changed(const std::vector<HostSeen>& hosts);

}  // namespace rackmark::service
