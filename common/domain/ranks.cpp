#include "common/domain/ranks.hpp"

#include <algorithm>

#include "common/domain/spec_table.hpp"

namespace rackmark {
namespace {

// `count` cards dealt to `hosts`: how many `host` has, how many those before it have, and who has
// the card `number` when they are counted host by host.
std::int64_t dealt(std::int64_t count, std::int64_t hosts, std::int64_t host) {
  return count / hosts + (host < count % hosts ? 1 : 0);
}
std::int64_t dealt_before(std::int64_t count, std::int64_t hosts, std::int64_t host) {
  return count / hosts * host + std::min(host, count % hosts);
}
std::int64_t dealt_to(std::int64_t count, std::int64_t hosts, std::int64_t number) {
  const std::int64_t least = count / hosts, longer = count % hosts;
  if (number < longer * (least + 1)) return number / (least + 1);
  return longer + (number - longer * (least + 1)) / least;
}

std::int64_t process_count(const RankCounts& counts) { return counts.workers + counts.servers; }

}  // namespace

std::int64_t worker_count(const JobSpec& spec) {
  const ResourcesSpec& resources = spec.resources;
  return resources.workers.value_or(resources.agents * resources.workers_per_agent.value_or(1));
}

std::int64_t dedicated_server_count(const JobSpec& spec) {
  const bool dedicated = trains(spec) && spec.variable_update == VariableUpdate::kParameterServer &&
                         spec.parameter_server.placement == ServerPlacement::kDedicated;
  return dedicated ? spec.parameter_server.servers : 0;
}

std::int64_t rank_count(const JobSpec& spec) {
  return worker_count(spec) + dedicated_server_count(spec);
}

RankCounts rank_counts(const JobSpec& spec) {
  return {spec.resources.agents, worker_count(spec), dedicated_server_count(spec)};
}

std::int64_t workers_on_host(const RankCounts& counts, std::int64_t host) {
  return dealt(counts.workers, counts.hosts, host);
}

std::int64_t ranks_on_host(const RankCounts& counts, std::int64_t host) {
  return dealt(process_count(counts), counts.hosts, host);
}

std::int64_t servers_on_host(const RankCounts& counts, std::int64_t host) {
  return ranks_on_host(counts, host) - workers_on_host(counts, host);
}

std::int64_t first_worker_on_host(const RankCounts& counts, std::int64_t host) {
  return dealt_before(counts.workers, counts.hosts, host);
}

std::int64_t first_server_on_host(const RankCounts& counts, std::int64_t host) {
  return counts.workers + dealt_before(process_count(counts), counts.hosts, host) -
         first_worker_on_host(counts, host);
}

std::int64_t host_of_rank(const RankCounts& counts, std::int64_t rank) {
  if (rank < counts.workers) return dealt_to(counts.workers, counts.hosts, rank);
  std::int64_t host = counts.hosts - 1;
  while (host > 0 && rank < first_server_on_host(counts, host)) --host;
  return host;
}

std::int64_t rank_of_launched(const RankCounts& counts, std::int64_t launched) {
  // More were started than the spec wants; the worker refuses that.
  if (launched < 0 || launched >= process_count(counts)) return launched;
  const std::int64_t host = dealt_to(process_count(counts), counts.hosts, launched);
  const std::int64_t place = launched - dealt_before(process_count(counts), counts.hosts, host);
  const std::int64_t workers = workers_on_host(counts, host);
  if (place < workers) return first_worker_on_host(counts, host) + place;
  return first_server_on_host(counts, host) + place - workers;
}

}  // namespace rackmark
