// The queue and the hosts as the scheduler sees them, read from the store. Internal to
// controller/service.
#pragma once

#include <optional>
#include <string>

#include "common/domain/spec.hpp"
#include "common/protocol/jobs.hpp"
#include "controller/service/scheduler.hpp"
#include "controller/store/agents.hpp"
#include "controller/store/jobs.hpp"

namespace rackmark::service {

HostShape shape_of(const protocol::Inventory& inventory);
// The spec of a stored job or run, also one that may not be asked for any more. kInvalid: it has
// fields or values that this version does not know; that is its own job's failure, nobody else's.
Result<JobSpec> stored_spec(const std::string& text);

// `estimates`: whether to look up how long runs take (only waits need it).
std::vector<Host> load_hosts(store::Database& db, std::int64_t now_us, bool estimates);
std::vector<QueuedJob> load_jobs(store::Database& db, bool estimates);  // that wait for a place
Queue load_queue(store::Database& db, std::int64_t now_us, bool estimates);
QueuedJob queued_job(store::Database& db, const store::JobRow& row, bool estimates);

// nullopt when the job does not wait for a place.
std::optional<protocol::Waiting> why_waiting(store::Database& db, std::int64_t job_id,
                                             std::int64_t now_us);
// As a job submitted now would wait; nullopt: it would start at once. `names` receives the agents
// that could run it, `fitting` the id of one of them.
std::optional<protocol::Waiting> would_wait(store::Database& db, const store::JobRow& job,
                                            std::int64_t now_us, std::vector<std::string>& names,
                                            std::optional<std::int64_t>& fitting);

}  // namespace rackmark::service
