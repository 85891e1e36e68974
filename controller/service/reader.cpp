#include "controller/service/reader.hpp"

#include <algorithm>
#include <map>

#include "common/domain/spec.hpp"
#include "controller/service/enrolment.hpp"
#include "controller/service/filters.hpp"
#include "controller/service/groups.hpp"
#include "controller/service/queue.hpp"
#include "controller/service/scaling.hpp"
#include "controller/service/secrets.hpp"
#include "controller/service/submission.hpp"
#include "controller/service/views.hpp"
#include "controller/store/backup.hpp"
#include "controller/store/facts.hpp"
#include "controller/store/journal.hpp"
#include "controller/store/logs.hpp"
#include "controller/store/migrate.hpp"
#include "controller/store/steps.hpp"

namespace rackmark::service {

namespace {

Error not_found(const char* what, std::int64_t id) {
  return {ErrorCode::kNotFound, std::string("there is no ") + what + " " + std::to_string(id), {}};
}

std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

protocol::RankSteps rank_steps(const store::RankSamples& s) {
  return {s.rank,
          doubles(s.ms),
          doubles(s.loss),
          doubles(s.input_wait_ms),
          doubles(s.exposed_communication_ms),
          doubles(s.server_wait_ms),
          doubles(s.warmup_ms),
          doubles(s.warmup_loss)};
}

constexpr std::int64_t kStepsOfAllRanks = 400'000;  // shown at once, of a phase

// Consecutive steps, or as many as are allowed of `steps`, evenly.
store::StepChoice step_choice(const std::optional<std::int64_t>& from, std::int64_t steps,
                              std::int64_t limit) {
  if (from) return {*from, 1, limit};
  return {0, std::max<std::int64_t>(1, (steps + limit - 1) / limit), limit};
}

constexpr std::size_t kTelemetryShown = 600;

// Counts rank by rank: ranks that take turns would else lose all but a few of them.
std::vector<nlohmann::json> thinned(std::vector<store::FactRow> rows) {
  const std::size_t stride = (rows.size() + kTelemetryShown - 1) / kTelemetryShown;
  std::map<std::int64_t, std::size_t> seen;
  std::vector<nlohmann::json> out;
  for (store::FactRow& row : rows) {
    if (seen[row.rank]++ % stride == 0) out.push_back(std::move(row.data));
  }
  return out;
}

// Numbers that are missing between two kept lines were dropped; said in place of the last of them.
std::vector<protocol::LogLineView> log_views(const std::vector<store::LogRow>& rows,
                                             std::int64_t after) {
  std::vector<protocol::LogLineView> lines;
  for (const store::LogRow& row : rows) {
    const std::int64_t dropped = row.number - after - 1;
    if (dropped > 0 && row.number > store::kFirstLines) {
      lines.push_back({row.number - 1, -1, "controller", "",
                       std::to_string(dropped) + " lines are not kept: of a long log the first " +
                           std::to_string(store::kFirstLines) + " and the last " +
                           std::to_string(store::kLastLines) + " are"});
    }
    lines.push_back(
        {row.number, row.rank, row.stream, row.at_us ? rfc3339(*row.at_us) : "", row.text});
    after = row.number;
  }
  return lines;
}

template <class State, class Map>
std::map<std::string, std::int64_t> named(const Map& counts) {
  std::map<std::string, std::int64_t> out;
  for (const std::string& name : json::enum_names<State>()) out[name] = 0;
  for (const auto& [state, count] : counts) out[json::enum_name(state)] = count;
  return out;
}

}  // namespace

struct Reader::Impl {
  store::Database db;
  const Clock& clock;
  Settings settings;
};

Reader::Reader(const std::filesystem::path& database, const Clock& clock, Settings settings)
    : impl_(new Impl{{database, store::Database::Access::kRead}, clock, settings}) {}

Reader::~Reader() = default;

Identity Reader::identity() {
  return {store::controller_uuid(impl_->db), store::schema_number(impl_->db)};
}

bool Reader::ready() {
  try {
    return !store::controller_uuid(impl_->db).empty();
  } catch (const store::StoreError&) {
    return false;  // which is the answer
  }
}

Result<protocol::BackupView> Reader::back_up() const {
  try {
    store::Database db(impl_->db.file(), store::Database::Access::kWrite);
    const std::int64_t now_us = impl_->clock.wall_us();
    const auto file = store::back_up(db, now_us);
    return protocol::BackupView{file.string(),
                                static_cast<std::int64_t>(std::filesystem::file_size(file)),
                                rfc3339(now_us)};
  } catch (const std::exception& error) {  // StoreError, or the disk
    return Error{ErrorCode::kUnavailable, std::string("no backup was made: ") + error.what(), {}};
  }
}

Result<protocol::JobPage> Reader::jobs(const protocol::JobQuery& query) {
  const auto filter = job_filter(query);
  if (!filter) return filter.error();
  store::Snapshot snapshot(impl_->db);
  auto rows = store::list_jobs(impl_->db, *filter, query.limit + 1);
  protocol::JobPage page;
  if (static_cast<std::int64_t>(rows.size()) > query.limit) {
    rows.pop_back();
    page.next_cursor = std::to_string(rows.back().id);
  }
  for (const store::JobRow& row : rows) page.items.push_back(job_view(impl_->db, row));
  return page;
}

Result<protocol::JobView> Reader::job(std::int64_t id) {
  store::Snapshot snapshot(impl_->db);
  const auto row = store::find_job(impl_->db, id);
  if (!row) return not_found("job", id);
  return full_job_view(impl_->db, *row, impl_->clock.wall_us());
}

Result<protocol::DryRun> Reader::dry_run(const nlohmann::json& submitted) {
  const auto row = job_row(submitted, "");
  if (!row) return row.error();
  store::Snapshot snapshot(impl_->db);
  protocol::DryRun out;
  std::optional<std::int64_t> fitting;
  out.waiting = would_wait(impl_->db, *row, impl_->clock.wall_us(), out.matching_agents, fitting);
  out.estimate_s = store::past_duration_s(impl_->db, row->spec_key);
  JobSpec spec = stored_spec(row->spec_resolved).value();  // parsed a moment ago
  if (fitting) {
    const auto agent = store::find_agent(impl_->db, *fitting);
    if (auto resolved = resolve_for_host(spec, shape_of(agent->inventory))) spec = *resolved;
  }
  out.spec_resolved = to_json(spec);
  return out;
}

Result<protocol::GroupPage> Reader::groups(const protocol::GroupQuery& query) {
  auto filter = group_filter(query);
  if (!filter) return filter.error();
  ++filter->limit;  // one more tells whether there is a next page
  store::Snapshot snapshot(impl_->db);
  auto rows = store::list_groups(impl_->db, *filter);
  protocol::GroupPage page;
  if (static_cast<std::int64_t>(rows.size()) > query.limit) {
    rows.pop_back();
    page.next_cursor = std::to_string(rows.back().id);
  }
  for (const store::GroupRow& row : rows) {
    page.items.push_back(group_view(row, store::list_jobs_of_group(impl_->db, row.id)));
  }
  return page;
}

Result<protocol::GroupView> Reader::group(std::int64_t id) {
  store::Snapshot snapshot(impl_->db);
  const auto row = store::find_group(impl_->db, id);
  if (!row) return not_found("group", id);
  return full_group_view(impl_->db, *row);
}

Result<protocol::ScalingView> Reader::scaling(std::int64_t group_id) {
  store::Snapshot snapshot(impl_->db);
  const auto row = store::find_group(impl_->db, group_id);
  if (!row) return not_found("group", group_id);
  const auto members = store::list_jobs_of_group(impl_->db, group_id);
  std::map<std::int64_t, protocol::ResultView> results;
  for (const store::JobRow& job : members) {
    for (auto& result : store::list_results_of_job(impl_->db, job.id)) {  // oldest first
      if (result.validity.verdict == measure::Verdict::kInvalid) continue;
      results[job.id] = std::move(result);
    }
  }
  return scaling_of(*row, members, results);
}

Result<protocol::RunView> Reader::run(std::int64_t id) {
  store::Snapshot snapshot(impl_->db);
  const auto row = store::find_run(impl_->db, id);
  if (!row) return not_found("run", id);
  return full_run_view(impl_->db, *row);
}

Result<protocol::StepsView> Reader::steps(std::int64_t id, const protocol::StepsQuery& query) {
  if (auto ok = check(query); !ok) return ok.error();
  store::Snapshot snapshot(impl_->db);
  const auto row = store::find_run(impl_->db, id);
  if (!row) return not_found("run", id);
  protocol::StepsView view;
  view.run_id = id;
  view.images_per_step = row->images_per_step;
  const store::StepCounts counts = store::count_steps(impl_->db, id);
  const std::int64_t limit = std::clamp<std::int64_t>(
      kStepsOfAllRanks / std::max<std::int64_t>(1, counts.ranks), 1, query.limit);
  const auto warmup = step_choice(query.from, counts.warmup, limit);
  const auto measured = step_choice(query.from, counts.measured, limit);
  view.warmup_steps = counts.warmup;
  view.steps = counts.measured;
  view.warmup_stride = warmup.stride;
  view.stride = measured.stride;
  for (const auto& samples : store::list_samples(impl_->db, id, warmup, measured)) {
    view.ranks.push_back(rank_steps(samples));
  }
  view.telemetry = thinned(store::list_telemetry(impl_->db, id));
  return view;
}

Result<protocol::ProfileView> Reader::profile(std::int64_t id) {
  store::Snapshot snapshot(impl_->db);
  if (!store::find_run(impl_->db, id)) return not_found("run", id);
  const auto data = store::find_profile(impl_->db, id);
  if (!data) {
    return Error{ErrorCode::kNotFound,
                 "run " + std::to_string(id) +
                     " has no profile: its spec had no \"profile\": true, or it did not get so far",
                 {}};
  }
  auto profile = json::decode<protocol::ProfileEvent>(*data, json::Unknown::kIgnore);
  if (!profile) return profile.error();
  return protocol::ProfileView{id, std::move(*profile)};
}

Result<protocol::LogPage> Reader::logs(std::int64_t id, const protocol::LogQuery& query) {
  if (auto ok = check(query); !ok) return ok.error();
  store::Snapshot snapshot(impl_->db);
  const auto run = store::find_run(impl_->db, id);
  if (!run) return not_found("run", id);
  const auto rows = query.tail ? store::tail_log(impl_->db, id, *query.tail)
                               : store::list_log(impl_->db, id, query.after, query.limit);
  const std::int64_t from = query.tail ? (rows.empty() ? 0 : rows.front().number - 1) : query.after;
  protocol::LogPage page;
  page.run_id = id;
  page.lines = log_views(rows, from);
  page.last_number = rows.empty() ? query.after : rows.back().number;
  page.complete = is_terminal(run->state) && page.last_number >= run->log_lines;
  return page;
}

Result<protocol::ResultPage> Reader::results(const protocol::ResultQuery& query) {
  const auto filter = result_filter(query);
  if (!filter) return filter.error();
  protocol::ResultPage page;
  page.items = store::list_results(impl_->db, *filter, query.limit + 1);
  if (static_cast<std::int64_t>(page.items.size()) > query.limit) {
    page.items.pop_back();
    page.next_cursor = std::to_string(page.items.back().id);
  }
  return page;
}

protocol::AgentList Reader::agents() {
  store::Snapshot snapshot(impl_->db);
  protocol::AgentList list;
  for (const store::AgentRow& row : store::list_agents(impl_->db)) {
    list.items.push_back(
        agent_view(impl_->db, row, impl_->clock.wall_us(), impl_->settings.lease_s));
  }
  return list;
}

Result<protocol::AgentView> Reader::agent(std::int64_t id) {
  store::Snapshot snapshot(impl_->db);
  const auto row = store::find_agent(impl_->db, id);
  if (!row) return not_found("agent", id);
  return agent_view(impl_->db, *row, impl_->clock.wall_us(), impl_->settings.lease_s);
}

Result<void> Reader::authenticate(std::int64_t agent_id, std::string_view bearer) {
  const auto hash = store::find_token_hash(impl_->db, agent_id);
  // Compared for unknown agents too, so that time does not tell which ids exist.
  const bool same = equal_secrets(sha256_hex(bearer), hash.value_or(sha256_hex("")));
  if (hash && same) return {};
  if (hash && hash->empty()) return agent_retired(agent_id);
  return Error{
      ErrorCode::kUnauthorized, "the token is not that of agent " + std::to_string(agent_id), {}};
}

std::vector<EventLogEntry> Reader::events_after(std::int64_t after, std::optional<std::int64_t> job,
                                                std::int64_t limit) {
  std::vector<EventLogEntry> entries;
  for (auto& row : store::list_events(impl_->db, after, job, limit)) {
    entries.push_back({row.id, std::move(row.event), row.job_id, std::move(row.data)});
  }
  return entries;
}

std::int64_t Reader::newest_event_id() { return store::newest_event_id(impl_->db); }
std::int64_t Reader::oldest_event_id() { return store::oldest_event_id(impl_->db); }

Counters Reader::counters() {
  store::Snapshot snapshot(impl_->db);
  Counters out;
  out.jobs_by_state = named<JobState>(store::count_jobs(impl_->db));
  out.runs_by_state = named<RunState>(store::count_runs(impl_->db));
  out.agents_by_state = {{"idle", 0}, {"busy", 0}, {"new", 0},
                         {"left", 0}, {"lost", 0}, {"conflict", 0}};
  for (const store::AgentRow& row : store::list_agents(impl_->db)) {
    ++out.agents_by_state
          [agent_view(impl_->db, row, impl_->clock.wall_us(), impl_->settings.lease_s).state];
  }
  out.results = store::count_results(impl_->db);
  out.events_logged = store::newest_event_id(impl_->db);
  out.database_bytes = store::database_bytes(impl_->db);
  if (const auto oldest = store::oldest_queued_us(impl_->db)) {
    out.oldest_queued_s = static_cast<double>(impl_->clock.wall_us() - *oldest) / 1e6;
  }
  return out;
}

}  // namespace rackmark::service
