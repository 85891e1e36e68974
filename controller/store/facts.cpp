#include "controller/store/facts.hpp"

namespace rackmark::store {

constexpr const char* kAddFact = R"sql(
  INSERT INTO run_facts (run_id, rank, type, t_ns, data)
  SELECT ?1, ?2, ?3, ?4, ?5
  WHERE (SELECT count(*) FROM run_facts WHERE run_id = ?1 AND type = ?3) < ?6)sql";

void add_fact(Transaction& tx, std::int64_t run_id, const FactRow& row) {
  Query(tx.db(), kAddFact, run_id, row.rank, row.type, row.t_ns, row.data, kFactsKept).run();
}

namespace {

std::vector<FactRow> read_facts(Query&& q) {
  std::vector<FactRow> rows;
  while (q.step()) {
    FactRow& row = rows.emplace_back();
    q.read(row.rank, row.type, row.t_ns, row.data);
  }
  return rows;
}

}  // namespace

constexpr const char* kListFacts = R"sql(
  SELECT rank, type, t_ns, data FROM run_facts WHERE run_id = ? AND type = ? ORDER BY rank, id)sql";

std::vector<FactRow> list_facts(Database& db, std::int64_t run_id, const std::string& type) {
  return read_facts(Query(db, kListFacts, run_id, type));
}

constexpr const char* kAddProfile =
    "INSERT OR IGNORE INTO run_profiles (run_id, data) VALUES (?, ?)";

void add_profile(Transaction& tx, std::int64_t run_id, const nlohmann::json& data) {
  Query(tx.db(), kAddProfile, run_id, data).run();
}

constexpr const char* kFindProfile = "SELECT data FROM run_profiles WHERE run_id = ?";

std::optional<nlohmann::json> find_profile(Database& db, std::int64_t run_id) {
  Query q(db, kFindProfile, run_id);
  if (!q.step()) return std::nullopt;
  nlohmann::json data;
  q.read(data);
  return data;
}

constexpr const char* kAddTelemetry =
    "INSERT INTO telemetry (run_id, rank, t_ns, data) VALUES (?, ?, ?, ?)";

void add_telemetry(Transaction& tx, std::int64_t run_id, const FactRow& row) {
  Query(tx.db(), kAddTelemetry, run_id, row.rank, row.t_ns, row.data).run();
}

constexpr const char* kListTelemetry =
    "SELECT rank, 'telemetry', t_ns, data FROM telemetry WHERE run_id = ? ORDER BY id";

std::vector<FactRow> list_telemetry(Database& db, std::int64_t run_id) {
  return read_facts(Query(db, kListTelemetry, run_id));
}

constexpr const char* kCountTelemetry = "SELECT count(*) FROM telemetry WHERE run_id = ?";
// Rank by rank: of ranks that take turns every second event is always the same one's.
constexpr const char* kDropEverySecond = R"sql(
  DELETE FROM telemetry WHERE id IN (
    SELECT id FROM (SELECT id, row_number() OVER (ORDER BY rank, id) AS n
                    FROM telemetry WHERE run_id = ?)
    WHERE n % 2 = 0))sql";

void thin_telemetry(Transaction& tx, std::int64_t run_id, std::int64_t keep) {
  std::int64_t count = 0;
  {
    Query q(tx.db(), kCountTelemetry, run_id);
    if (q.step()) q.read(count);
  }
  while (count > keep) {
    Query(tx.db(), kDropEverySecond, run_id).run();
    count -= tx.db().changed();
  }
}

}  // namespace rackmark::store
