// Jobs: benchmarks as submitted. The body of a submission is the spec itself
// (common/domain/spec.hpp).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/run_state.hpp"
#include "common/json/described.hpp"
#include "common/json/json.hpp"
#include "common/measure/statistics.hpp"
#include "common/protocol/endpoint.hpp"
#include "common/protocol/runs.hpp"

namespace rackmark::protocol {

struct SubmitQuery {
  bool validate = false;  // dry run: check and resolve, store nothing, answer 200 with a DryRun
};
BOOST_DESCRIBE_STRUCT(SubmitQuery, (), (validate))

struct Waiting {       // why a queued job is not running
  std::string detail;  // "no agent matches selector fleet=gpu" / "behind job 41 on agent a"
  std::optional<std::int64_t> blocking_job;
  std::optional<double> estimate_s;  // from past runs; null: nothing to estimate from
};
BOOST_DESCRIBE_STRUCT(Waiting, (), (detail, blocking_job, estimate_s))

struct DryRun {
  nlohmann::json spec_resolved;  // defaults filled; host-dependent ones when an agent matches
  std::vector<std::string> matching_agents;
  std::optional<Waiting> waiting;    // as a job submitted now would wait
  std::optional<double> estimate_s;  // duration of one run, from past runs of the same series
};
BOOST_DESCRIBE_STRUCT(DryRun, (), (spec_resolved, matching_agents, waiting, estimate_s))

struct JobView {
  std::int64_t id = 0;
  std::string controller_uuid;  // (uuid, id) is the global identity
  std::string name;             // may be empty
  std::map<std::string, std::string> labels;
  std::optional<std::int64_t> group_id, rerun_of;
  JobState state = JobState::kQueued;
  std::optional<RunState> outcome;  // the run state that decided it
  Reason reason = Reason::kNone;
  std::string detail;
  std::string created_at;
  std::optional<std::string> started_at, ended_at;
  bool cancel_requested = false;              // wanted state, beside the observed one
  measure::Headline headline;                 // null number while there is none
  std::optional<measure::Validity> validity;  // of the runs behind the headline
  std::string model, mode, precision, device, variable_update;  // variable_update "" in inference
  std::int64_t batch_size = 0;
  std::vector<std::string> agents;  // of the last run
  std::string device_class;         // of the last run, "" before
  nlohmann::json spec_submitted;
  nlohmann::json spec_resolved;    // every default; what depends on the host is in its runs' spec
  std::optional<Waiting> waiting;  // only while queued; null in the answer to a submission
  std::vector<RunView> runs;       // oldest first; empty in lists
  std::vector<TransitionView> transitions;  // its own, with who asked; empty in lists
};
BOOST_DESCRIBE_STRUCT(JobView, (),
                      (id, controller_uuid, name, labels, group_id, rerun_of, state, outcome,
                       reason, detail, created_at, started_at, ended_at, cancel_requested, headline,
                       validity, model, mode, precision, device, variable_update, batch_size,
                       agents, device_class, spec_submitted, spec_resolved, waiting, runs,
                       transitions))

struct JobQuery {
  std::optional<std::string> state, model, mode, precision, device_class, agent,
      name;                                 // state: also "active"
  std::optional<std::string> label;         // "key=value"
  std::optional<std::string> since, until;  // RFC 3339, by creation
  std::optional<std::string> cursor;
  std::int64_t limit = 50;  // 1 to 500
};
BOOST_DESCRIBE_STRUCT(JobQuery, (),
                      (state, model, mode, precision, device_class, agent, name, label, since,
                       until, cursor, limit))
struct JobPage {
  std::vector<JobView> items;  // newest first, without runs
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(JobPage, (), (items, next_cursor))

// Idempotency-Key header: the same key and body within 24 h answers the first reply again; another
// body under the same key is 409. Reply of kSubmitJob is a DryRun when validate=true.
inline constexpr Endpoint<nlohmann::json, JobView, SubmitQuery> kSubmitJob{
    Verb::kPost, "/api/v1/jobs", "Submit a job, or check one with validate=true", Role::kSubmitter,
    201};
inline constexpr Endpoint<Nothing, JobPage, JobQuery> kListJobs{Verb::kGet, "/api/v1/jobs",
                                                                "Jobs with filters, newest first"};
inline constexpr Endpoint<Nothing, JobView> kShowJob{Verb::kGet, "/api/v1/jobs/{id}",
                                                     "One job with its runs, and why it waits"};
inline constexpr Endpoint<Nothing, JobView> kCancelJob{Verb::kPost, "/api/v1/jobs/{id}:cancel",
                                                       "Cancel a job; its workers are ended",
                                                       Role::kSubmitter};
inline constexpr Endpoint<Nothing, JobView> kRerunJob{Verb::kPost, "/api/v1/jobs/{id}:rerun",
                                                      "Submit an equal job", Role::kSubmitter, 201};

}  // namespace rackmark::protocol
