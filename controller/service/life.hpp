// The life of runs and of the jobs that they belong to. Internal to controller/service.
#pragma once

#include <string>

#include "common/protocol/agents.hpp"
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

// How a run ended on one of its hosts, as its agent says: the first end stands. With the last host
// the run ends, and what the ends come to together is in run.reported_*.
void end_on_host(Change& change, store::RunRow& run, store::HostRow& host,
                 const protocol::ObservedRun& seen);

// Nothing more will come from this host: it is lost, or it forgot the run. What it said of an end
// stands, unless that was a success whose events are lost; else the run ended there as `end`.
void give_up_host(Change& change, store::RunRow& run, store::HostRow& host, RunState end,
                  const Cause& cause);

// Whether this run must be ended on the hosts where it has not ended, since it did on another one.
bool must_end(const std::vector<store::HostRow>& hosts, std::int64_t now_us);

// Once run.reported_* is there: the run ends when all event batches of all its hosts are stored;
// `late`: it ends now, with what is there.
void finish_reported(Change& change, store::RunRow& run, bool late);

// Its host is empty.
void release_host(Change& change, store::HostRow& host);

// Ends a job that has no live run.
void end_job(Change& change, store::JobRow& job, JobState end, std::optional<RunState> outcome,
             const Cause& cause);

}  // namespace rackmark::service
