// The life of runs and of the jobs that they belong to. Internal to controller/service.
#pragma once

#include <string>

#include "controller/service/core.hpp"
#include "controller/store/jobs.hpp"
#include "controller/store/runs.hpp"

namespace rackmark::service {

// Why and by whom a state is entered.
struct Cause {
  Actor actor = Actor::kController;
  Reason reason = Reason::kNone;
  std::string detail;
  std::optional<std::int64_t> agent_at_us;
};

// Moves a live run forward within its phases. Nothing happens when may_follow() says no.
void move_run(Change& change, store::RunRow& run, RunState to, const Cause& cause);

// Ends a live run, and with it perhaps its job; the next repetition or attempt is queued. A run
// that is over stays as it is.
void end_run(Change& change, store::RunRow& run, RunState end, const Cause& cause);

// What the agent says of the end is in run.reported_*. The run ends once all its event batches are
// stored; `late`: it ends now, with what is there.
void finish_reported(Change& change, store::RunRow& run, bool late);

// Its host is empty.
void release_host(Change& change, store::HostRow& host);

// Ends a job that has no live run.
void end_job(Change& change, store::JobRow& job, JobState end, std::optional<RunState> outcome,
             const Cause& cause);

}  // namespace rackmark::service
