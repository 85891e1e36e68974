#include "controller/store/runs.hpp"

#include "common/measure/statistics.hpp"

namespace rackmark::store {

namespace {

const std::string kRunColumns =
    "id, job_id, repetition, attempt, agent_id, device_class, spec_resolved, spec_key, ranks, "
    "images_per_step, run_token, timeout_s, network, wanted, state, reason, detail, exit_code, "
    "memory, "
    "reported_state, reported_reason, reported_detail, reported_us, reported_agent_us, "
    "phase, steps_done, steps_planned, images_per_second, loss, log_lines, "
    "created_us, started_us, ended_us";

RunRow read_run(Query& q) {
  RunRow r;
  q.read(r.id, r.job_id, r.repetition, r.attempt, r.agent_id, r.device_class, r.spec_resolved,
         r.spec_key, r.ranks, r.images_per_step, r.run_token, r.timeout_s, r.network, r.wanted,
         r.state, r.reason, r.detail, r.exit_code, r.memory, r.reported_state, r.reported_reason,
         r.reported_detail, r.reported_us, r.reported_agent_us, r.phase, r.steps_done,
         r.steps_planned, r.images_per_second, r.loss, r.log_lines, r.created_us, r.started_us,
         r.ended_us);
  return r;
}

std::vector<RunRow> read_runs(Query&& q) {
  std::vector<RunRow> rows;
  while (q.step()) rows.push_back(read_run(q));
  return rows;
}

const std::string kHostColumns =
    "run_id, agent_id, position, told_incarnation, seen_incarnation, accepted_seq, accepted_us, "
    "released_us, end_state, end_reason, end_detail, end_us, end_agent_us, end_seq, end_exit_code, "
    "end_memory, stall";

std::vector<HostRow> read_hosts(Query&& q) {
  std::vector<HostRow> rows;
  while (q.step()) {
    HostRow r;
    q.read(r.run_id, r.agent_id, r.position, r.told_incarnation, r.seen_incarnation, r.accepted_seq,
           r.accepted_us, r.released_us, r.end_state, r.end_reason, r.end_detail, r.end_us,
           r.end_agent_us, r.end_seq, r.end_exit_code, r.end_memory, r.stall);
    rows.push_back(r);
  }
  return rows;
}

}  // namespace

constexpr const char* kInsertRun = R"sql(
  INSERT INTO runs (job_id, repetition, attempt, agent_id, device_class, spec_resolved, spec_key,
                    ranks, images_per_step, run_token, timeout_s, network, state, created_us)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))sql";

constexpr const char* kInsertHost =
    "INSERT INTO run_agents (run_id, agent_id, position) VALUES (?, ?, ?)";

std::int64_t insert_run(Transaction& tx, const RunRow& r, const std::vector<std::int64_t>& hosts) {
  Query(tx.db(), kInsertRun, r.job_id, r.repetition, r.attempt, r.agent_id, r.device_class,
        r.spec_resolved, r.spec_key, r.ranks, r.images_per_step, r.run_token, r.timeout_s,
        r.network, r.state, tx.now_us())
      .run();
  const std::int64_t id = tx.db().last_id();
  std::int64_t position = 0;
  for (const std::int64_t agent_id : hosts) {
    Query(tx.db(), kInsertHost, id, agent_id, position++).run();
  }
  return id;
}

const std::string kFindRun = "SELECT " + kRunColumns + " FROM runs WHERE id = ?";

std::optional<RunRow> find_run(Database& db, std::int64_t id) {
  Query q(db, kFindRun, id);
  if (!q.step()) return std::nullopt;
  return read_run(q);
}

const std::string kRunsOfJob = "SELECT " + kRunColumns + " FROM runs WHERE job_id = ? ORDER BY id";

std::vector<RunRow> list_runs_of_job(Database& db, std::int64_t job_id) {
  return read_runs(Query(db, kRunsOfJob, job_id));
}

const std::string kLiveRuns =
    "SELECT " + kRunColumns + " FROM runs WHERE ended_us IS NULL ORDER BY id";

std::vector<RunRow> list_live_runs(Database& db) { return read_runs(Query(db, kLiveRuns)); }

const std::string kLiveRunsOfAgent =
    "SELECT " + kRunColumns +
    " FROM runs WHERE ended_us IS NULL AND id IN "
    "(SELECT run_id FROM run_agents WHERE agent_id = ? AND run_over = 0) ORDER BY id";

std::vector<RunRow> list_live_runs_of_agent(Database& db, std::int64_t agent_id) {
  return read_runs(Query(db, kLiveRunsOfAgent, agent_id));
}

constexpr const char* kUpdateRun = R"sql(
  UPDATE runs SET state = ?, reason = ?, detail = ?, exit_code = ?, memory = ?,
    reported_state = ?, reported_reason = ?, reported_detail = ?, reported_us = ?,
    reported_agent_us = ?, phase = ?, steps_done = ?, steps_planned = ?,
    images_per_second = ?, loss = ?, log_lines = ?, started_us = ?, ended_us = ?,
    images_per_step = ?
  WHERE id = ?)sql";

constexpr const char* kRunIsOver = "UPDATE run_agents SET run_over = 1 WHERE run_id = ?";

void update_run(Transaction& tx, const RunRow& r) {
  if (r.ended_us) Query(tx.db(), kRunIsOver, r.id).run();
  Query(tx.db(), kUpdateRun, r.state, r.reason, r.detail, r.exit_code, r.memory, r.reported_state,
        r.reported_reason, r.reported_detail, r.reported_us, r.reported_agent_us, r.phase,
        r.steps_done, r.steps_planned, r.images_per_second, r.loss, r.log_lines, r.started_us,
        r.ended_us, r.images_per_step, r.id)
      .run();
}

constexpr const char* kCountRuns = "SELECT state, count(*) FROM runs GROUP BY state";

std::map<RunState, std::int64_t> count_runs(Database& db) {
  std::map<RunState, std::int64_t> counts;
  Query q(db, kCountRuns);
  while (q.step()) {
    RunState state{};
    std::int64_t count = 0;
    q.read(state, count);
    counts[state] = count;
  }
  return counts;
}

const std::string kHostsOfRun =
    "SELECT " + kHostColumns + " FROM run_agents WHERE run_id = ? ORDER BY position";

std::vector<HostRow> list_hosts(Database& db, std::int64_t run_id) {
  return read_hosts(Query(db, kHostsOfRun, run_id));
}

const std::string kFindHost =
    "SELECT " + kHostColumns + " FROM run_agents WHERE run_id = ? AND agent_id = ?";

std::optional<HostRow> find_host(Database& db, std::int64_t run_id, std::int64_t agent_id) {
  auto rows = read_hosts(Query(db, kFindHost, run_id, agent_id));
  if (rows.empty()) return std::nullopt;
  return rows.front();
}

// By the index: the order alone would have SQLite walk all hosts there ever were.
const std::string kTakenHosts = "SELECT " + kHostColumns +
                                " FROM run_agents INDEXED BY run_agents_exclusive "
                                "WHERE released_us IS NULL ORDER BY run_id";

std::vector<HostRow> list_taken_hosts(Database& db) { return read_hosts(Query(db, kTakenHosts)); }

const std::string kTakenHostsOfAgent =
    "SELECT " + kHostColumns + " FROM run_agents WHERE released_us IS NULL AND agent_id = ?";

std::vector<HostRow> list_taken_hosts(Database& db, std::int64_t agent_id) {
  return read_hosts(Query(db, kTakenHostsOfAgent, agent_id));
}

constexpr const char* kUpdateHost = R"sql(
  UPDATE run_agents SET told_incarnation = ?, seen_incarnation = ?, accepted_seq = ?,
    accepted_us = ?, released_us = ?, end_state = ?, end_reason = ?, end_detail = ?, end_us = ?,
    end_agent_us = ?, end_seq = ?, end_exit_code = ?, end_memory = ?, stall = ?
  WHERE run_id = ? AND agent_id = ?)sql";

void update_host(Transaction& tx, const HostRow& r) {
  Query(tx.db(), kUpdateHost, r.told_incarnation, r.seen_incarnation, r.accepted_seq, r.accepted_us,
        r.released_us, r.end_state, r.end_reason, r.end_detail, r.end_us, r.end_agent_us, r.end_seq,
        r.end_exit_code, r.end_memory, r.stall, r.run_id, r.agent_id)
      .run();
}

constexpr const char* kAddTransition = R"sql(
  INSERT INTO transitions (job_id, run_id, state, actor, reason, detail, at_us, agent_at_us)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?))sql";

void add_transition(Transaction& tx, TransitionRow r) {
  Query(tx.db(), kAddTransition, r.job_id, r.run_id, r.state, r.actor, r.reason, r.detail,
        tx.now_us(), r.agent_at_us)
      .run();
}

namespace {

std::vector<TransitionRow> read_transitions(Query&& q) {
  std::vector<TransitionRow> rows;
  while (q.step()) {
    TransitionRow r;
    q.read(r.job_id, r.run_id, r.state, r.actor, r.reason, r.detail, r.at_us, r.agent_at_us);
    rows.push_back(r);
  }
  return rows;
}

}  // namespace

constexpr const char* kTransitionsOfRun = R"sql(
  SELECT job_id, run_id, state, actor, reason, detail, at_us, agent_at_us
  FROM transitions WHERE run_id = ? ORDER BY id)sql";

std::vector<TransitionRow> list_transitions(Database& db, std::int64_t run_id) {
  return read_transitions(Query(db, kTransitionsOfRun, run_id));
}

constexpr const char* kTransitionsOfJob = R"sql(
  SELECT job_id, run_id, state, actor, reason, detail, at_us, agent_at_us
  FROM transitions WHERE job_id = ? AND run_id IS NULL ORDER BY id)sql";

std::vector<TransitionRow> list_transitions_of_job(Database& db, std::int64_t job_id) {
  return read_transitions(Query(db, kTransitionsOfJob, job_id));
}

constexpr const char* kPastDurations = R"sql(
  SELECT (ended_us - created_us) / 1e6 FROM runs
  WHERE spec_key = ? AND state = 'succeeded' ORDER BY id DESC LIMIT 5)sql";

std::optional<double> past_duration_s(Database& db, const std::string& spec_key) {
  std::vector<double> seconds;
  Query q(db, kPastDurations, spec_key);
  while (q.step()) q.read(seconds.emplace_back());
  return measure::median(seconds);
}

}  // namespace rackmark::store
