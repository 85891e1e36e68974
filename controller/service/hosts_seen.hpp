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

// By kernel; empty as soon as one rank says nothing, as its CPU time would count as foreign.
std::vector<HostSeen> hosts_seen(const std::map<std::int64_t, protocol::SummaryEvent>& summaries);

// Of the host where it was most; null where none says.
std::optional<double> foreign_cpu_fraction(const std::vector<HostSeen>& hosts);

// Mean power of the CPU packages of all hosts; null as soon as one of them does not say.
std::optional<double> package_power_w(const std::vector<HostSeen>& hosts);

bool governor_changed(const std::vector<HostSeen>& hosts);

}  // namespace rackmark::service
