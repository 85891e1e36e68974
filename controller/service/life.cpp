#include "controller/service/life.hpp"

#include <algorithm>
#include <variant>

#include "controller/service/queue.hpp"
#include "controller/service/repetition.hpp"
#include "controller/service/result_of_run.hpp"
#include "controller/service/run_end.hpp"
#include "controller/store/facts.hpp"
#include "controller/store/results.hpp"
#include "controller/store/steps.hpp"

namespace rackmark::service {

namespace {

void record(Change& change, const store::RunRow& run, const Cause& cause) {
  store::add_transition(change.tx, {run.job_id, run.id, json::enum_name(run.state), cause.actor,
                                    cause.reason, cause.detail, 0, cause.agent_at_us});
}

void record(Change& change, const store::JobRow& job, const Cause& cause) {
  store::add_transition(change.tx, {job.id, std::nullopt, json::enum_name(job.state), cause.actor,
                                    cause.reason, cause.detail, 0, std::nullopt});
}

void take_headline(store::JobRow& job, const std::vector<protocol::ResultView>& results) {
  std::vector<double> rates;
  std::vector<measure::JudgedRun> judged;
  measure::StepStatistics only;
  for (const auto& result : results) {
    judged.push_back({result.run_id, result.validity});
    if (result.validity.verdict == measure::Verdict::kInvalid) continue;
    rates.push_back(result.images_per_second);
    only = result.step;
  }
  const measure::Headline headline = measure::job_headline(rates, only);
  job.images_per_second = headline.images_per_second;
  job.spread = headline.spread.value;
  job.spread_kind = headline.spread.kind;
  job.headline_runs = headline.runs;
  measure::Validity validity = measure::job_validity(judged);
  job.verdict = json::enum_name(validity.verdict);
  job.causes = std::move(validity.causes);
  job.not_checked = std::move(validity.not_checked);
}

// The next run of this job after `run` ended, if any.
bool queue_next(Change& change, store::JobRow& job, const store::RunRow& run) {
  if (job.cancel_wanted()) return false;
  const auto spec = stored_spec(job.spec_resolved);
  if (!spec) return false;  // no run of it would be understood
  if (run.state == RunState::kSucceeded) {
    const auto results = store::list_results_of_job(change.db(), job.id);
    std::vector<double> rates;
    for (const auto& result : results) rates.push_back(result.images_per_second);
    const double minutes =
        static_cast<double>(change.now_us() - job.started_us.value_or(change.now_us())) / 60e6;
    if (!wants_another(spec->repetitions, run.repetition, rates, minutes)) return false;
    job.next_repetition = run.repetition + 1;
    job.next_attempt = 1;
  } else {
    if (!is_retryable(run.state, run.reason) || run.attempt > spec->retries) return false;
    job.next_repetition = run.repetition;
    job.next_attempt = run.attempt + 1;
  }
  store::update_job(change.tx, job);
  change.touch_job(job.id);
  change.place_later();
  return true;
}

// As cancel_job() wrote it down.
Cause cancellation(Change& change, std::int64_t job_id) {
  Cause cause{Actor::kUser, Reason::kCancelledByUser, "", std::nullopt};
  for (const store::TransitionRow& t : store::list_transitions_of_job(change.db(), job_id)) {
    if (t.reason == Reason::kCancelledByUser) cause.detail = t.detail;
  }
  return cause;
}

void settle_job(Change& change, const store::RunRow& run) {
  auto job = store::find_job(change.db(), run.job_id);
  if (!job || is_terminal(job->state)) return;
  if (run.state == RunState::kSucceeded) {
    take_headline(*job, store::list_results_of_job(change.db(), job->id));
  }
  if (queue_next(change, *job, run)) return;
  Cause cause{Actor::kController, run.reason, run.detail, std::nullopt};
  JobState end = job_state_for(run.state);
  if (job->cancel_wanted()) {
    // A run that was done before the cancellation reached it still counts when it was the last.
    const auto spec = stored_spec(job->spec_resolved);
    if (end != JobState::kSucceeded || !spec || run.repetition < spec->repetitions.min) {
      end = JobState::kCancelled;
      cause = cancellation(change, job->id);
    }
  }
  end_job(change, *job, end, run.state, cause);
}

// An end that was asked for is an end as cancelled, however the workers died of it.
RunState as_asked(const store::RunRow& run, RunState end) {
  const bool died = end == RunState::kFailed || end == RunState::kStalled;
  return run.cancel_wanted() && died ? RunState::kCancelled : end;
}

bool batches_complete(Change& change, const store::RunRow& run) {
  const auto hosts = store::list_hosts(change.db(), run.id);
  return std::all_of(hosts.begin(), hosts.end(),
                     [](const store::HostRow& host) { return host.accepted_seq >= host.end_seq; });
}

std::int64_t missing_batches(Change& change, const store::RunRow& run) {
  std::int64_t missing = 0;
  for (const store::HostRow& host : store::list_hosts(change.db(), run.id)) {
    missing += std::max<std::int64_t>(0, host.end_seq - host.accepted_seq);
  }
  return missing;
}

HostEnd host_end(store::Database& db, const store::HostRow& host) {
  HostEnd end;
  end.agent = store::find_agent_name(db, host.agent_id).value_or("?");
  end.state = *host.end_state;
  end.reason = host.end_reason;
  end.detail = host.end_detail;
  end.exit_code = host.end_exit_code;
  end.memory = host.end_memory;
  end.agent_at_us = host.end_agent_us;
  if (host.stall.is_object()) {
    auto stall = json::decode<protocol::StallReport>(host.stall, json::Unknown::kIgnore);
    if (stall) end.stall = std::move(*stall);
  }
  return end;
}

// The run ends once it has ended on every host: then it is known why, and nothing of it is left.
void settle_hosts(Change& change, store::RunRow& run) {
  const auto hosts = store::list_hosts(change.db(), run.id);
  std::vector<HostEnd> ends;
  for (const store::HostRow& host : hosts) {
    if (host.end_state) ends.push_back(host_end(change.db(), host));
  }
  change.touch_run(run.id);
  if (ends.size() < hosts.size()) {
    if (!must_end(hosts, change.now_us())) return;
    for (const store::HostRow& host : hosts) {
      if (!host.end_state) change.wake(host.agent_id);
    }
    return;
  }
  if (!run.reported_state) {
    RunEnding ending = ending_of(ends, run.cancel_wanted());
    run.reported_state = ending.state;
    run.reported_reason = ending.reason;
    run.reported_detail = std::move(ending.detail);
    run.reported_us = change.now_us();
    run.reported_agent_us = ending.agent_at_us;
    run.exit_code = ending.exit_code;
    run.memory = std::move(ending.memory);
    store::update_run(change.tx, run);
    if (ending.state == RunState::kSucceeded) {
      move_run(change, run, RunState::kCollecting, {Actor::kAgent, Reason::kNone, "", {}});
    }
  }
  finish_reported(change, run, false);
}

void finish_succeeded(Change& change, store::RunRow& run) {
  const auto result = result_of_run(collect_evidence(change.db(), run));
  if (const auto* failure = std::get_if<Failure>(&result)) {
    end_run(change, run, RunState::kFailed,
            {Actor::kController, failure->reason, failure->detail, run.reported_agent_us});
    return;
  }
  store::insert_result(change.tx, std::get<protocol::ResultView>(result));
  end_run(change, run, RunState::kSucceeded,
          {Actor::kAgent, Reason::kNone, run.reported_detail, run.reported_agent_us});
}

}  // namespace

void move_run(Change& change, store::RunRow& run, RunState to, const Cause& cause) {
  if (!may_follow(run.state, to)) return;
  if (run.state == RunState::kReserved && !is_terminal(to)) run.started_us = change.now_us();
  run.state = to;
  if (is_terminal(to)) {
    run.reason = cause.reason;
    run.detail = cause.detail;
    run.ended_us = change.now_us();
  }
  store::update_run(change.tx, run);
  record(change, run, cause);
  change.touch_run(run.id);
}

void end_run(Change& change, store::RunRow& run, RunState end, const Cause& cause) {
  if (!may_follow(run.state, end)) return;
  move_run(change, run, end, cause);
  store::compact_samples(change.tx, run.id);
  store::thin_telemetry(change.tx, run.id, store::kTelemetryKept);
  for (store::HostRow& host : store::list_hosts(change.db(), run.id)) {
    // Never told of the run: nothing of it can be there.
    if (host.told_incarnation.empty()) release_host(change, host);
    change.touch_agent(host.agent_id);
    change.wake(host.agent_id);
  }
  change.forget_run(run.id);
  settle_job(change, run);
}

void end_on_host(Change& change, store::RunRow& run, store::HostRow& host,
                 const protocol::ObservedRun& seen) {
  host.end_seq = std::max(host.end_seq, seen.last_seq);
  if (!host.end_state) {
    host.end_state = seen.state;
    host.end_reason = seen.reason;
    host.end_detail = seen.detail;
    host.end_us = change.now_us();
    host.end_agent_us = parse_rfc3339(seen.at);
    host.end_exit_code = seen.exit_code;
    host.end_memory = seen.memory;
  }
  store::update_host(change.tx, host);
  settle_hosts(change, run);
}

void give_up_host(Change& change, store::RunRow& run, store::HostRow& host, RunState end,
                  const Cause& cause) {
  const bool complete = host.accepted_seq >= host.end_seq;
  host.end_seq = host.accepted_seq;
  if (!host.end_state || (*host.end_state == RunState::kSucceeded && !complete)) {
    host.end_state = end;
    host.end_reason = cause.reason;
    host.end_detail = cause.detail;
    host.end_us = change.now_us();
    host.end_agent_us.reset();
    run.reported_state.reset();
  }
  store::update_host(change.tx, host);
  settle_hosts(change, run);
}

bool must_end(const std::vector<store::HostRow>& hosts, std::int64_t now_us) {
  // After mpirun's own end the other hosts' parts end by themselves, a moment later. And mpirun, on
  // the head, notices by itself that another host's rank or daemon is gone: it says which and why.
  constexpr std::int64_t kByThemselvesUs = 5'000'000;
  return std::any_of(hosts.begin(), hosts.end(), [now_us](const store::HostRow& host) {
    if (!host.end_state) return false;
    const bool late = now_us - host.end_us.value_or(now_us) > kByThemselvesUs;
    if (*host.end_state == RunState::kSucceeded) return host.position == 0 && late;
    const bool crashed = host.end_reason == Reason::kMissingRank ||
                         host.end_reason == Reason::kWorkerCrashed ||
                         host.end_reason == Reason::kLaunchFailed;
    return host.position == 0 || !crashed || late;
  });
}

void finish_reported(Change& change, store::RunRow& run, bool late) {
  if (!run.reported_state || is_terminal(run.state)) return;
  const bool complete = batches_complete(change, run);
  if (!complete && !late) return;
  if (*run.reported_state != RunState::kSucceeded) {
    const RunState end = as_asked(run, *run.reported_state);
    const Reason reason =
        end == RunState::kCancelled ? Reason::kCancelledByUser : run.reported_reason;
    const Actor actor = run.reported_agent_us ? Actor::kAgent : Actor::kController;
    end_run(change, run, end, {actor, reason, run.reported_detail, run.reported_agent_us});
  } else if (complete) {
    finish_succeeded(change, run);
  } else {
    end_run(change, run, RunState::kFailed,
            {Actor::kController, Reason::kInternal,
             "the run succeeded, but " + std::to_string(missing_batches(change, run)) +
                 " of its event batches never came",
             run.reported_agent_us});
  }
}

void release_host(Change& change, store::HostRow& host) {
  if (host.released_us) return;
  host.released_us = change.now_us();
  store::update_host(change.tx, host);
  change.touch_agent(host.agent_id);
  change.place_later();
}

void end_job(Change& change, store::JobRow& job, JobState end, std::optional<RunState> outcome,
             const Cause& cause) {
  job.state = end;
  job.outcome = outcome;
  job.reason = cause.reason;
  job.detail = cause.detail;
  job.next_repetition.reset();
  job.next_attempt.reset();
  job.ended_us = change.now_us();
  if (end != JobState::kSucceeded) {  // a job without its end has no number
    job.images_per_second.reset();
    job.spread.reset();
    job.spread_kind.clear();
    job.headline_runs = 0;
    job.verdict.reset();
    job.causes.clear();
    job.not_checked.clear();
  }
  store::update_job(change.tx, job);
  record(change, job, cause);
  change.touch_job(job.id);
}

}  // namespace rackmark::service
