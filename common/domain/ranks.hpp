// How the processes of a run are counted, and which of them does what. Controller, agents and
// workers all count with these functions.
//
// Processes are dealt to the hosts one by one like cards, the workers first and the dedicated
// parameter servers on from there: no host has two more than another. Every host runs its workers
// and then its servers, and the launcher numbers processes host by host in that order. Everybody
// else numbers the workers first: rank r < workers is a worker, the ranks after it are servers.
// These are the numbers in events, logs' causes and results. Without dedicated servers both
// numberings are the same.
#pragma once

#include <cstdint>

#include "common/domain/spec.hpp"

namespace rackmark {

// All of a resolved spec: workers or workers_per_agent has a value.
std::int64_t worker_count(const JobSpec& spec);
// Processes that only serve variables; 0 unless parameter_server.placement is dedicated.
std::int64_t dedicated_server_count(const JobSpec& spec);
std::int64_t rank_count(const JobSpec& spec);  // both: the processes of the run

struct RankCounts {
  std::int64_t hosts = 1, workers = 1, servers = 0;  // servers: dedicated ones
};
RankCounts rank_counts(const JobSpec& spec);

// Of host `host`, counted from 0 in the order of the launch. Host 0 has as many as any.
std::int64_t workers_on_host(const RankCounts& counts, std::int64_t host);
std::int64_t servers_on_host(const RankCounts& counts, std::int64_t host);
std::int64_t ranks_on_host(const RankCounts& counts, std::int64_t host);
// The numbers of its first worker and of its first server; the others follow.
std::int64_t first_worker_on_host(const RankCounts& counts, std::int64_t host);
std::int64_t first_server_on_host(const RankCounts& counts, std::int64_t host);

// Where rank `rank` runs; 0 <= rank < workers + servers.
std::int64_t host_of_rank(const RankCounts& counts, std::int64_t rank);

// The number of the process that the launcher calls `launched` (MPI's rank in the world).
std::int64_t rank_of_launched(const RankCounts& counts, std::int64_t launched);

}  // namespace rackmark
