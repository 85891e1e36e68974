// How the processes of a run are counted, and which of them does what. Controller, agents and
// workers all count with these functions.
//
// Every host runs its workers and then its share of the dedicated parameter servers, and the
// launcher numbers processes host by host in that order. Everybody else numbers the workers first:
// rank r < worker_count() is a worker, the ranks after it are servers. These are the numbers in
// events, logs' causes and results. Without dedicated servers both numberings are the same.
#pragma once

#include <cstdint>

#include "common/domain/spec.hpp"

namespace rackmark {

// All of a resolved spec: workers_per_agent has a value.
std::int64_t worker_count(const JobSpec& spec);
// Processes that only serve variables; 0 unless parameter_server.placement is dedicated.
std::int64_t dedicated_server_count(const JobSpec& spec);
std::int64_t rank_count(const JobSpec& spec);  // both: the processes of the run

// Of host `host`, counted from 0 in the order of the launch. Servers are spread evenly; the first
// hosts have one more.
std::int64_t servers_on_host(const JobSpec& spec, std::int64_t host);
std::int64_t ranks_on_host(const JobSpec& spec, std::int64_t host);

// The number of the process that the launcher calls `launched` (MPI's rank in the world).
std::int64_t rank_of_launched(const JobSpec& spec, std::int64_t launched);

}  // namespace rackmark
