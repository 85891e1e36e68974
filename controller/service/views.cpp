#include "controller/service/views.hpp"

#include <algorithm>

#include "common/clock.hpp"
#include "common/domain/ranks.hpp"
#include "controller/service/queue.hpp"
#include "controller/store/journal.hpp"
#include "controller/store/results.hpp"

namespace rackmark::service {

namespace {

std::optional<std::string> time_text(const std::optional<std::int64_t>& us) {
  if (!us) return std::nullopt;
  return rfc3339(*us);
}

nlohmann::json stored_json(const std::string& text) {
  return nlohmann::json::parse(text, nullptr, false);
}

nlohmann::json without(nlohmann::json view, std::initializer_list<const char*> members) {
  for (const char* member : members) view.erase(member);
  return view;
}

std::vector<protocol::RunHostView> host_views(store::Database& db, const store::RunRow& run) {
  const auto hosts = store::list_hosts(db, run.id);
  const RankCounts counts{std::max<std::int64_t>(1, static_cast<std::int64_t>(hosts.size())),
                          run.ranks, dedicated_servers_of(run)};
  std::vector<protocol::RunHostView> views;
  for (const store::HostRow& host : hosts) {
    protocol::RunHostView& view = views.emplace_back();
    view.agent_id = host.agent_id;
    view.agent = store::find_agent_name(db, host.agent_id).value_or("");
    view.first_rank = first_worker_on_host(counts, host.position);
    view.ranks = workers_on_host(counts, host.position);
    view.servers = servers_on_host(counts, host.position);
    view.ended = host.end_state;
    view.detail = host.end_detail;
  }
  return views;
}

std::vector<protocol::TransitionView> transition_views(
    const std::vector<store::TransitionRow>& rows) {
  std::vector<protocol::TransitionView> views;
  for (const store::TransitionRow& t : rows) {
    views.push_back({t.state, json::enum_name(t.actor), rfc3339(t.at_us), time_text(t.agent_at_us),
                     json::enum_name(t.reason), t.detail});
  }
  return views;
}

const char* absent_state(store::Presence presence) {
  if (presence == store::Presence::kNeverSeen) return "new";
  return presence == store::Presence::kLeft ? "left" : "lost";
}

}  // namespace

std::int64_t dedicated_servers_of(const store::RunRow& run) {
  if (run.spec_resolved.find("\"dedicated\"") == std::string::npos) return 0;  // spares parsing
  const auto spec = stored_spec(run.spec_resolved);
  return spec ? dedicated_server_count(*spec) : 0;
}

protocol::JobView job_view(store::Database& db, const store::JobRow& row) {
  protocol::JobView view;
  view.id = row.id;
  view.controller_uuid = store::controller_uuid(db);
  view.name = row.name;
  view.labels = row.labels;
  view.group_id = row.group_id;
  view.rerun_of = row.rerun_of;
  view.state = row.state;
  view.outcome = row.outcome;
  view.reason = row.reason;
  view.detail = row.detail;
  view.created_at = rfc3339(row.created_us);
  view.started_at = time_text(row.started_us);
  view.ended_at = time_text(row.ended_us);
  view.cancel_requested = row.cancel_wanted();
  view.headline = {row.images_per_second, {row.spread, row.spread_kind}, row.headline_runs};
  if (row.verdict) {
    view.validity = measure::Validity{
        json::enum_from<measure::Verdict>(*row.verdict).value_or(measure::Verdict::kClean),
        row.causes, row.not_checked};
  }
  view.model = row.model;
  view.mode = row.mode;
  view.precision = row.precision;
  view.device = row.device;
  view.variable_update = row.variable_update;
  view.batch_size = row.batch_size;
  view.agents = store::list_agents_of_last_run(db, row.id);
  view.device_class = row.device_class;
  view.spec_submitted = stored_json(row.spec_submitted);
  view.spec_resolved = stored_json(row.spec_resolved);
  return view;
}

protocol::JobView full_job_view(store::Database& db, const store::JobRow& row,
                                std::int64_t now_us) {
  protocol::JobView view = job_view(db, row);
  for (const store::RunRow& run : store::list_runs_of_job(db, row.id)) {
    view.runs.push_back(full_run_view(db, run));
  }
  view.transitions = transition_views(store::list_transitions_of_job(db, row.id));
  if (row.next_repetition) view.waiting = why_waiting(db, row.id, now_us);
  return view;
}

protocol::RunView run_view(store::Database& db, const store::RunRow& row) {
  protocol::RunView view;
  view.id = row.id;
  view.job_id = row.job_id;
  view.repetition = row.repetition;
  view.attempt = row.attempt;
  view.state = row.state;
  view.reason = row.reason;
  view.detail = row.detail;
  view.agent_id = row.agent_id;
  if (const auto name = store::find_agent_name(db, row.agent_id)) view.agent = *name;
  view.device_class = row.device_class;
  view.hosts = host_views(db, row);
  view.network = row.network;
  view.created_at = rfc3339(row.created_us);
  view.started_at = time_text(row.started_us);
  view.ended_at = time_text(row.ended_us);
  view.exit_code = row.exit_code;
  view.memory = row.memory;
  view.progress = {row.phase, row.steps_done, row.steps_planned, row.images_per_second, row.loss};
  return view;
}

protocol::RunView full_run_view(store::Database& db, const store::RunRow& row) {
  protocol::RunView view = run_view(db, row);
  view.spec = stored_json(row.spec_resolved);
  view.transitions = transition_views(store::list_transitions(db, row.id));
  if (row.state == RunState::kSucceeded) view.result = store::find_result_of_run(db, row.id);
  return view;
}

protocol::AgentView agent_view(store::Database& db, const store::AgentRow& row, std::int64_t now_us,
                               double lease_s) {
  protocol::AgentView view;
  view.id = row.id;
  view.name = row.name;
  view.device_class = row.device_class;
  view.labels = row.labels;
  view.enrolled_at = rfc3339(row.enrolled_us);
  view.last_seen_at = time_text(row.last_seen_us);
  if (row.last_seen_us) {
    view.last_seen_s = std::max(0.0, static_cast<double>(now_us - *row.last_seen_us) / 1e6);
  }
  view.inventory = row.inventory;
  const auto taken = store::list_taken_hosts(db, row.id);
  if (!taken.empty()) {
    view.run_id = taken.front().run_id;
    if (const auto run = store::find_run(db, *view.run_id)) view.job_id = run->job_id;
  }
  view.state_detail = row.presence_detail;
  if (row.retired_us) {
    view.state = "retired";
  } else if (row.presence != store::Presence::kPresent) {
    view.state = absent_state(row.presence);
  } else if (row.conflict_us &&
             now_us - *row.conflict_us < static_cast<std::int64_t>(lease_s * 1e6)) {
    view.state = "conflict";
    view.state_detail = row.conflict_detail;
  } else {
    view.state = taken.empty() ? "idle" : "busy";
  }
  return view;
}

nlohmann::json job_event(const protocol::JobView& view) {
  return without(json::encode(view), {"runs", "transitions", "spec_submitted", "spec_resolved"});
}

nlohmann::json run_event(const protocol::RunView& view) {
  return without(json::encode(view), {"spec", "transitions", "result"});
}

nlohmann::json agent_event(const protocol::AgentView& view) {
  return without(json::encode(view), {"inventory"});
}

}  // namespace rackmark::service
