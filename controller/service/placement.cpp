#include "controller/service/placement.hpp"

#include <algorithm>

#include "common/domain/ranks.hpp"
#include "controller/service/life.hpp"
#include "controller/service/queue.hpp"
#include "controller/service/secrets.hpp"

namespace rackmark::service {

namespace {

std::string places(store::Database& db, const Placement& placement) {
  std::string text = placement.hosts.size() == 1 ? "on agent " : "on agents ";
  for (const std::int64_t id : placement.hosts) {
    if (id != placement.hosts.front()) text += ", ";
    text += store::find_agent_name(db, id).value_or("?");
  }
  return placement.network.empty() ? text : text + " over " + placement.network;
}

store::RunRow new_run(const store::JobRow& job, const store::AgentRow& head, const JobSpec& spec,
                      const std::string& network) {
  store::RunRow run;
  run.job_id = job.id;
  run.repetition = job.next_repetition.value();
  run.attempt = job.next_attempt.value();
  run.agent_id = head.id;
  run.device_class = head.device_class;
  run.spec_resolved = to_json(spec).dump();
  run.spec_key = job.spec_key;
  run.ranks = worker_count(spec);  // dedicated servers send no step and are not counted
  run.images_per_step = spec.batch_size * run.ranks;
  run.run_token = random_hex(32);
  run.timeout_s = derived_timeout_s(spec);
  run.network = network;
  return run;
}

void start(Change& change, const Placement& placement) {
  auto job = store::find_job(change.db(), placement.job_id);
  const auto head = store::find_agent(change.db(), placement.hosts.front());
  if (!job || !job->next_repetition || !head) return;
  const auto asked = stored_spec(job->spec_resolved);
  if (!asked) return;  // the plan had asked all this: nothing changed since
  const auto spec = resolve_for_host(*asked, shape_of(head->inventory));
  if (!spec) return;
  store::RunRow run = new_run(*job, *head, *spec, placement.network);
  run.id = store::insert_run(change.tx, run, placement.hosts);
  run.created_us = change.now_us();
  store::add_transition(
      change.tx, {job->id, run.id, json::enum_name(run.state), Actor::kScheduler, Reason::kNone,
                  places(change.db(), placement), 0, std::nullopt});
  if (job->state == JobState::kQueued) {
    job->state = JobState::kRunning;
    job->started_us = change.now_us();
    store::add_transition(change.tx, {job->id, std::nullopt, json::enum_name(job->state),
                                      Actor::kScheduler, Reason::kNone, "", 0, std::nullopt});
  }
  job->device_class = head->device_class;
  job->next_repetition.reset();
  job->next_attempt.reset();
  store::update_job(change.tx, *job);
  change.core.memory.deadline_ns[run.id] = deadline_ns(change.core, run.timeout_s, 0);
  change.touch_run(run.id);
  change.touch_job(job->id);
  for (const std::int64_t agent_id : placement.hosts) {
    change.touch_agent(agent_id);
    change.wake(agent_id);
  }
}

}  // namespace

void place(Change& change) {
  Queue queue;
  queue.hosts = load_hosts(change.db(), change.now_us(), false);
  const auto is_free = [](const Host& host) { return host.is_free(); };
  if (std::none_of(queue.hosts.begin(), queue.hosts.end(), is_free)) return;  // a queue may be long
  queue.jobs = load_jobs(change.db(), false);
  for (const Placement& placement : FifoScheduler().plan(queue, true).placements) {
    start(change, placement);
  }
}

std::int64_t deadline_ns(const Core& core, double timeout_s, double ran_s) {
  const double left_s = std::max(0.0, timeout_s - ran_s) + core.settings.run_grace_s;
  return core.clock.monotonic_ns() + static_cast<std::int64_t>(left_s * 1e9);
}

}  // namespace rackmark::service
