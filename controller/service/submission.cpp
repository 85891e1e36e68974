#include "controller/service/submission.hpp"

#include "common/domain/spec.hpp"
#include "controller/service/idempotency.hpp"
#include "controller/service/life.hpp"
#include "controller/service/views.hpp"
#include "controller/store/journal.hpp"

namespace rackmark::service {

namespace {

Error not_found(std::int64_t job_id) {
  return {ErrorCode::kNotFound, "there is no job " + std::to_string(job_id), {}};
}

std::string subject(std::int64_t job_id) { return "job " + std::to_string(job_id); }

// Stores the job and commits. The reply shows it as it was accepted, before it is placed; behind
// whom it waits is not looked up, which costs a walk through the whole queue.
protocol::JobView accept(Change& change, store::JobRow row,
                         const std::optional<Idempotency>& idempotency, const std::string& who,
                         const std::string& action) {
  const std::int64_t id = add_job(change, std::move(row), who, action);
  const auto stored = store::find_job(change.db(), id);
  protocol::JobView view = job_view(change.db(), *stored);
  remember_reply(change, idempotency, json::encode(view));
  change.finish();
  return view;
}

}  // namespace

Result<void> within_limit(Change& change, std::size_t more) {
  const std::int64_t active = store::count_active_jobs(change.db());
  const std::int64_t limit = change.core.settings.maximum_active_jobs;
  if (active + static_cast<std::int64_t>(more) <= limit) return {};
  return Error{ErrorCode::kTooMany,
               std::to_string(active) + " jobs are queued or running, the limit is " +
                   std::to_string(limit) + "; cancel some or wait",
               {}};
}

std::int64_t add_job(Change& change, store::JobRow row, const std::string& who,
                     const std::string& action) {
  row.id = store::insert_job(change.tx, row);
  store::add_transition(change.tx, {row.id, std::nullopt, json::enum_name(row.state), Actor::kUser,
                                    Reason::kNone, "", 0, std::nullopt});
  store::audit(change.tx, who, action, subject(row.id), row.name);
  change.touch_job(row.id);
  change.place_later();
  return row.id;
}

Result<store::JobRow> job_row(const nlohmann::json& submitted, std::string spec_text) {
  auto parsed = parse_spec(submitted);
  if (!parsed) return parsed.error();
  const JobSpec& spec = *parsed;
  store::JobRow row;
  row.name = spec.name;
  row.labels = spec.labels;
  row.spec_submitted = std::move(spec_text);
  row.spec_resolved = to_json(spec).dump();
  row.spec_key = fingerprint(spec, "", {}, "");  // what is measured, whatever it runs on
  row.model = spec.model;
  row.mode = json::enum_name(spec.mode);
  row.precision = json::enum_name(spec.precision);
  row.device = json::enum_name(spec.resources.device);
  row.variable_update = spec.variable_update ? json::enum_name(*spec.variable_update) : "";
  row.input_kind = json::enum_name(spec.input.kind);
  row.batch_size = spec.batch_size;
  row.priority = spec.priority;
  row.agents_wanted = spec.resources.agents;
  row.selector = spec.resources.selector;
  row.next_repetition = 1;
  row.next_attempt = 1;
  return row;
}

Result<protocol::JobView> submit(Core& core, const Submission& submission) {
  Change change(core);
  auto earlier = earlier_view<protocol::JobView>(change, submission.idempotency);
  if (!earlier) return earlier.error();
  if (*earlier) return std::move(**earlier);
  auto row = job_row(submission.spec, submission.spec_text);
  if (!row) return row.error();
  if (auto limit = within_limit(change); !limit) return limit.error();
  return accept(change, std::move(*row), submission.idempotency, submission.who, "submit");
}

Result<protocol::JobView> rerun(Core& core, std::int64_t job_id,
                                const std::optional<Idempotency>& idempotency,
                                const std::string& who) {
  Change change(core);
  auto earlier = earlier_view<protocol::JobView>(change, idempotency);
  if (!earlier) return earlier.error();
  if (*earlier) return std::move(**earlier);
  const auto old = store::find_job(change.db(), job_id);
  if (!old) return not_found(job_id);
  const auto spec = nlohmann::json::parse(old->spec_submitted, nullptr, false);
  auto row = job_row(spec, old->spec_submitted);  // newer versions may refuse what older ones took
  if (!row) return row.error();
  if (auto limit = within_limit(change); !limit) return limit.error();
  row->rerun_of = job_id;
  row->group_id = old->group_id;  // it may fill the place of one that failed
  return accept(change, std::move(*row), idempotency, who, "rerun");
}

void cancel_job(Change& change, store::JobRow& job, const std::string& who) {
  if (job.cancel_wanted()) return;
  const Cause cause{Actor::kUser, Reason::kCancelledByUser, "cancelled by " + who, std::nullopt};
  store::want_cancelled(change.tx, job.id);
  store::audit(change.tx, who, "cancel", subject(job.id));
  job.wanted = "cancel";
  change.touch_job(job.id);
  if (job.state == JobState::kRunning) {  // it ends later, and who asked is to be known then
    store::add_transition(change.tx, {job.id, std::nullopt, json::enum_name(job.state), cause.actor,
                                      cause.reason, cause.detail, 0, std::nullopt});
  }
  bool live = false;
  for (store::RunRow& run : store::list_runs_of_job(change.db(), job.id)) {
    if (is_terminal(run.state)) continue;
    const auto hosts = store::list_hosts(change.db(), run.id);
    const bool told = std::any_of(hosts.begin(), hosts.end(), [](const store::HostRow& host) {
      return !host.told_incarnation.empty();
    });
    live = true;
    if (!told) end_run(change, run, RunState::kCancelled, cause);  // ends the job too
    for (const store::HostRow& host : hosts) change.wake(host.agent_id);
  }
  if (!live) end_job(change, job, JobState::kCancelled, std::nullopt, cause);
}

Result<protocol::JobView> cancel(Core& core, std::int64_t job_id, const std::string& who) {
  Change change(core);
  auto job = store::find_job(change.db(), job_id);
  if (!job) return not_found(job_id);
  if (is_terminal(job->state)) {
    return Error{ErrorCode::kConflict,
                 "job " + std::to_string(job_id) + " is over (" + json::enum_name(job->state) + ")",
                 {}};
  }
  cancel_job(change, *job, who);
  job = store::find_job(change.db(), job_id);
  protocol::JobView view = full_job_view(change.db(), *job, change.now_us());
  change.finish();
  return view;
}

}  // namespace rackmark::service
