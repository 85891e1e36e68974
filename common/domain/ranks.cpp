#include "common/domain/ranks.hpp"

#include "common/domain/spec_table.hpp"

namespace rackmark {

std::int64_t worker_count(const JobSpec& spec) {
  return spec.resources.agents * spec.resources.workers_per_agent.value_or(1);
}

std::int64_t dedicated_server_count(const JobSpec& spec) {
  const bool dedicated = trains(spec) && spec.variable_update == VariableUpdate::kParameterServer &&
                         spec.parameter_server.placement == ServerPlacement::kDedicated;
  return dedicated ? spec.parameter_server.servers : 0;
}

std::int64_t rank_count(const JobSpec& spec) {
  return worker_count(spec) + dedicated_server_count(spec);
}

std::int64_t servers_on_host(const JobSpec& spec, std::int64_t host) {
  const std::int64_t servers = dedicated_server_count(spec), hosts = spec.resources.agents;
  return servers / hosts + (host < servers % hosts ? 1 : 0);
}

std::int64_t ranks_on_host(const JobSpec& spec, std::int64_t host) {
  return spec.resources.workers_per_agent.value_or(1) + servers_on_host(spec, host);
}

std::int64_t rank_of_launched(const JobSpec& spec, std::int64_t launched) {
  const std::int64_t workers = spec.resources.workers_per_agent.value_or(1);
  std::int64_t first = 0, servers_before = 0;
  for (std::int64_t host = 0; host < spec.resources.agents; ++host) {
    const std::int64_t place = launched - first;
    if (place < workers) return host * workers + place;
    if (place < ranks_on_host(spec, host)) {
      return worker_count(spec) + servers_before + place - workers;
    }
    first += ranks_on_host(spec, host);
    servers_before += servers_on_host(spec, host);
  }
  return launched;  // more were started than the spec wants; the worker refuses that
}

}  // namespace rackmark
