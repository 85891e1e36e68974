#include "controller/store/jobs.hpp"

namespace rackmark::store {

namespace {

const std::string kJobColumns =
    "id, group_id, rerun_of, name, labels, spec_submitted, spec_resolved, spec_key, model, mode, "
    "precision, device, variable_update, input_kind, batch_size, priority, agents_wanted, "
    "selector, wanted, state, outcome, reason, detail, next_repetition, next_attempt, "
    "device_class, images_per_second, spread, spread_kind, headline_runs, verdict, causes, "
    "not_checked, created_us, started_us, ended_us";

JobRow read_job(Query& q) {
  JobRow r;
  q.read(r.id, r.group_id, r.rerun_of, r.name, r.labels, r.spec_submitted, r.spec_resolved,
         r.spec_key, r.model, r.mode, r.precision, r.device, r.variable_update, r.input_kind,
         r.batch_size, r.priority, r.agents_wanted, r.selector, r.wanted, r.state, r.outcome,
         r.reason, r.detail, r.next_repetition, r.next_attempt, r.device_class, r.images_per_second,
         r.spread, r.spread_kind, r.headline_runs, r.verdict, r.causes, r.not_checked, r.created_us,
         r.started_us, r.ended_us);
  return r;
}

}  // namespace

constexpr const char* kInsertJob = R"sql(
  INSERT INTO jobs (group_id, rerun_of, name, labels, spec_submitted, spec_resolved, spec_key,
                    model, mode, precision, device, variable_update, input_kind, batch_size,
                    priority, agents_wanted, selector, state, next_repetition, next_attempt,
                    created_us)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))sql";

constexpr const char* kInsertLabel = "INSERT INTO job_labels (job_id, key, value) VALUES (?, ?, ?)";

std::int64_t insert_job(Transaction& tx, const JobRow& r) {
  Query(tx.db(), kInsertJob, r.group_id, r.rerun_of, r.name, r.labels, r.spec_submitted,
        r.spec_resolved, r.spec_key, r.model, r.mode, r.precision, r.device, r.variable_update,
        r.input_kind, r.batch_size, r.priority, r.agents_wanted, r.selector, r.state,
        r.next_repetition, r.next_attempt, tx.now_us())
      .run();
  const std::int64_t id = tx.db().last_id();
  for (const auto& [key, value] : r.labels) Query(tx.db(), kInsertLabel, id, key, value).run();
  return id;
}

const std::string kFindJob = "SELECT " + kJobColumns + " FROM jobs WHERE id = ?";

std::optional<JobRow> find_job(Database& db, std::int64_t id) {
  Query q(db, kFindJob, id);
  if (!q.step()) return std::nullopt;
  return read_job(q);
}

// The plus: a job has few runs and an agent many, so not by the index of agents.
constexpr const char* kOfAgent = R"sql(
  EXISTS (SELECT 1 FROM runs JOIN run_agents ON run_agents.run_id = runs.id
          WHERE runs.job_id = jobs.id
            AND +run_agents.agent_id = (SELECT id FROM agents WHERE name = ?)))sql";

constexpr const char* kOfLabel = R"sql(
  jobs.id IN (SELECT job_id FROM job_labels WHERE key = ? AND value = ?))sql";

std::vector<JobRow> list_jobs(Database& db, const JobFilter& f, std::int64_t limit) {
  std::string where = "WHERE 1";
  const auto also = [&where](bool given, const std::string& condition) {
    if (given) where += " AND " + condition;
  };
  also(f.state.has_value(), "state = ?");
  also(f.active, "state IN ('queued', 'running')");
  also(f.model.has_value(), "model = ?");
  also(f.mode.has_value(), "mode = ?");
  also(f.precision.has_value(), "precision = ?");
  also(f.device_class.has_value(), "device_class = ?");
  also(f.agent.has_value(), kOfAgent);
  also(f.name_part.has_value(), "instr(lower(name), lower(?)) > 0");
  also(f.label.has_value(), kOfLabel);
  also(f.since_us.has_value(), "created_us >= ?");
  also(f.until_us.has_value(), "created_us < ?");
  also(f.before_id.has_value(), "id < ?");
  Query q(db, "SELECT " + kJobColumns + " FROM jobs " + where + " ORDER BY id DESC LIMIT ?");
  if (f.state) q.bind(*f.state);
  for (const auto* text :
       {&f.model, &f.mode, &f.precision, &f.device_class, &f.agent, &f.name_part}) {
    if (*text) q.bind(**text);
  }
  if (f.label) q.bind(f.label->first), q.bind(f.label->second);
  for (const auto* number : {&f.since_us, &f.until_us, &f.before_id}) {
    if (*number) q.bind(**number);
  }
  q.bind(limit);
  std::vector<JobRow> rows;
  while (q.step()) rows.push_back(read_job(q));
  return rows;
}

const std::string kListOfGroup =
    "SELECT " + kJobColumns + " FROM jobs WHERE group_id = ? ORDER BY id";

std::vector<JobRow> list_jobs_of_group(Database& db, std::int64_t group_id) {
  Query q(db, kListOfGroup, group_id);
  std::vector<JobRow> rows;
  while (q.step()) rows.push_back(read_job(q));
  return rows;
}

constexpr const char* kUpdateJob = R"sql(
  UPDATE jobs SET spec_resolved = ?, state = ?, outcome = ?, reason = ?, detail = ?,
    next_repetition = ?, next_attempt = ?, device_class = ?, images_per_second = ?, spread = ?,
    spread_kind = ?, headline_runs = ?, verdict = ?, causes = ?, not_checked = ?, started_us = ?, ended_us = ?,
    batch_size = ?
  WHERE id = ?)sql";

void update_job(Transaction& tx, const JobRow& r) {
  Query(tx.db(), kUpdateJob, r.spec_resolved, r.state, r.outcome, r.reason, r.detail,
        r.next_repetition, r.next_attempt, r.device_class, r.images_per_second, r.spread,
        r.spread_kind, r.headline_runs, r.verdict, r.causes, r.not_checked, r.started_us,
        r.ended_us, r.batch_size, r.id)
      .run();
}

constexpr const char* kCancelJob = "UPDATE jobs SET wanted = 'cancel' WHERE id = ?";
constexpr const char* kCancelRuns =
    "UPDATE runs SET wanted = 'cancel' WHERE job_id = ? AND ended_us IS NULL";

void want_cancelled(Transaction& tx, std::int64_t job_id) {
  Query(tx.db(), kCancelJob, job_id).run();
  Query(tx.db(), kCancelRuns, job_id).run();
}

const std::string kListWaiting = "SELECT " + kJobColumns +
                                 " FROM jobs WHERE next_repetition IS NOT NULL "
                                 "ORDER BY priority DESC, id";

std::vector<JobRow> list_waiting_jobs(Database& db) {
  Query q(db, kListWaiting);
  std::vector<JobRow> rows;
  while (q.step()) rows.push_back(read_job(q));
  return rows;
}

constexpr const char* kCountJobs = "SELECT state, count(*) FROM jobs GROUP BY state";

std::map<JobState, std::int64_t> count_jobs(Database& db) {
  std::map<JobState, std::int64_t> counts;
  Query q(db, kCountJobs);
  while (q.step()) {
    JobState state{};
    std::int64_t count = 0;
    q.read(state, count);
    counts[state] = count;
  }
  return counts;
}

constexpr const char* kCountActive =
    "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')";

std::int64_t count_active_jobs(Database& db) {
  Query q(db, kCountActive);
  std::int64_t count = 0;
  if (q.step()) q.read(count);
  return count;
}

constexpr const char* kOldestQueued = "SELECT min(created_us) FROM jobs WHERE state = 'queued'";

std::optional<std::int64_t> oldest_queued_us(Database& db) {
  Query q(db, kOldestQueued);
  std::optional<std::int64_t> oldest;
  if (q.step()) q.read(oldest);
  return oldest;
}

}  // namespace rackmark::store
