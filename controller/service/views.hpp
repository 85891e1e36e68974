// Rows as the views of common/protocol. Internal to controller/service.
#pragma once

#include "common/protocol/agents.hpp"
#include "common/protocol/jobs.hpp"
#include "common/protocol/runs.hpp"
#include "controller/store/agents.hpp"
#include "controller/store/jobs.hpp"
#include "controller/store/runs.hpp"

namespace rackmark::service {

// Ranks that only serve variables; their numbers follow those of the run's `ranks` workers.
std::int64_t dedicated_servers_of(const store::RunRow& run);

// Without runs; `waiting` is left empty.
protocol::JobView job_view(store::Database& db, const store::JobRow& row);
// With its runs, and why it waits.
protocol::JobView full_job_view(store::Database& db, const store::JobRow& row, std::int64_t now_us);
// Without spec, transitions and result.
protocol::RunView run_view(store::Database& db, const store::RunRow& row);
protocol::RunView full_run_view(store::Database& db, const store::RunRow& row);
// `lease_s`: for how long a conflict is shown.
protocol::AgentView agent_view(store::Database& db, const store::AgentRow& row, std::int64_t now_us,
                               double lease_s);

// What the event log carries.
nlohmann::json job_event(const protocol::JobView& view);
nlohmann::json run_event(const protocol::RunView& view);
nlohmann::json agent_event(const protocol::AgentView& view);

}  // namespace rackmark::service
