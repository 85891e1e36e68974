#include "controller/service/core.hpp"

#include "controller/service/placement.hpp"
#include "controller/service/views.hpp"
#include "controller/store/journal.hpp"

namespace rackmark::service {

std::vector<EventLogEntry> Change::log_events() {
  std::vector<EventLogEntry> entries;
  for (const std::int64_t id : runs_) {
    if (const auto run = store::find_run(db(), id)) {
      entries.push_back({0, "run", run->job_id, run_event(run_view(db(), *run))});
    }
  }
  for (const std::int64_t id : jobs_) {
    if (const auto job = store::find_job(db(), id)) {
      entries.push_back({0, "job", job->id, job_event(job_view(db(), *job))});
    }
  }
  for (const std::int64_t id : agents_) {
    if (const auto agent = store::find_agent(db(), id)) {
      const auto view = agent_view(db(), *agent, now_us(), core.settings.lease_s);
      entries.push_back({0, "agent", std::nullopt, agent_event(view)});
    }
  }
  for (EventLogEntry& entry : entries) {
    entry.id = store::add_event(tx, {0, entry.event, entry.job_id, entry.data});
  }
  return entries;
}

void Change::place_now() {
  if (!place_) return;
  place_ = false;
  place(*this);
}

void Change::forget() {
  Memory& memory = core.memory;
  for (const std::int64_t run_id : over_) {
    memory.deadline_ns.erase(run_id);
    memory.heard_ns.erase(run_id);
    memory.recent.erase(run_id);
    memory.relay.erase(run_id);
    memory.seen.erase(run_id);
  }
  for (const std::int64_t agent_id : lost_) memory.last_sync_ns.erase(agent_id);
}

void Change::finish() {
  place_now();
  auto entries = log_events();
  tx.commit();
  forget();
  const Notices& notices = core.notices;
  for (EventLogEntry& entry : entries) {
    if (notices.event) notices.event(std::move(entry));
  }
  for (LiveEvent& event : live_) {
    if (notices.live) notices.live(std::move(event));
  }
  for (const std::int64_t agent_id : wake_) {
    if (notices.wake_agent) notices.wake_agent(agent_id);
  }
}

}  // namespace rackmark::service
