#include "controller/store/agents.hpp"

namespace rackmark::store {

namespace {

const std::string kAgentColumns =
    "id, name, token_hash, labels, device_class, device_class_given, inventory, presence, "
    "presence_detail, boot_id, incarnation, sync_number, last_seen_us, conflict_us, "
    "conflict_detail, enrolled_us, retired_us";

AgentRow read_agent(Query& q) {
  AgentRow r;
  q.read(r.id, r.name, r.token_hash, r.labels, r.device_class, r.device_class_given, r.inventory,
         r.presence, r.presence_detail, r.boot_id, r.incarnation, r.sync_number, r.last_seen_us,
         r.conflict_us, r.conflict_detail, r.enrolled_us, r.retired_us);
  return r;
}

}  // namespace

constexpr const char* kInsertAgent = R"sql(
  INSERT INTO agents (name, token_hash, labels, device_class, device_class_given, inventory,
                      presence, enrolled_us)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?))sql";

std::int64_t insert_agent(Transaction& tx, const AgentRow& r) {
  Query(tx.db(), kInsertAgent, r.name, r.token_hash, r.labels, r.device_class, r.device_class_given,
        r.inventory, r.presence, tx.now_us())
      .run();
  return tx.db().last_id();
}

const std::string kFindAgent = "SELECT " + kAgentColumns + " FROM agents WHERE id = ?";

std::optional<AgentRow> find_agent(Database& db, std::int64_t id) {
  Query q(db, kFindAgent, id);
  if (!q.step()) return std::nullopt;
  return read_agent(q);
}

const std::string kFindAgentByName = "SELECT " + kAgentColumns + " FROM agents WHERE name = ?";

std::optional<AgentRow> find_agent_by_name(Database& db, const std::string& name) {
  Query q(db, kFindAgentByName, name);
  if (!q.step()) return std::nullopt;
  return read_agent(q);
}

const std::string kListAgents =
    "SELECT " + kAgentColumns + " FROM agents WHERE retired_us IS NULL ORDER BY id";

std::vector<AgentRow> list_agents(Database& db) {
  std::vector<AgentRow> rows;
  Query q(db, kListAgents);
  while (q.step()) rows.push_back(read_agent(q));
  return rows;
}

constexpr const char* kFindAgentName = "SELECT name FROM agents WHERE id = ?";

std::optional<std::string> find_agent_name(Database& db, std::int64_t id) {
  Query q(db, kFindAgentName, id);
  if (!q.step()) return std::nullopt;
  std::string name;
  q.read(name);
  return name;
}

constexpr const char* kAgentsOfLastRun = R"sql(
  SELECT agents.name FROM run_agents JOIN agents ON agents.id = run_agents.agent_id
  WHERE run_agents.run_id = (SELECT max(id) FROM runs WHERE job_id = ?)
  ORDER BY run_agents.position)sql";

std::vector<std::string> list_agents_of_last_run(Database& db, std::int64_t job_id) {
  std::vector<std::string> names;
  Query q(db, kAgentsOfLastRun, job_id);
  while (q.step()) q.read(names.emplace_back());
  return names;
}

constexpr const char* kFindTokenHash = "SELECT token_hash FROM agents WHERE id = ?";

std::optional<std::string> find_token_hash(Database& db, std::int64_t id) {
  Query q(db, kFindTokenHash, id);
  if (!q.step()) return std::nullopt;
  std::string hash;
  q.read(hash);
  return hash;
}

constexpr const char* kUpdateAgent = R"sql(
  UPDATE agents SET token_hash = ?, labels = ?, device_class = ?, device_class_given = ?,
    inventory = ?, enrolled_us = ?, retired_us = ?
  WHERE id = ?)sql";

void update_agent(Transaction& tx, const AgentRow& r) {
  Query(tx.db(), kUpdateAgent, r.token_hash, r.labels, r.device_class, r.device_class_given,
        r.inventory, r.enrolled_us, r.retired_us, r.id)
      .run();
  touch_agent(tx, r);
}

constexpr const char* kTouchAgent = R"sql(
  UPDATE agents SET presence = ?, presence_detail = ?, boot_id = ?, incarnation = ?,
    sync_number = ?, last_seen_us = ?, conflict_us = ?, conflict_detail = ?
  WHERE id = ?)sql";

void touch_agent(Transaction& tx, const AgentRow& r) {
  Query(tx.db(), kTouchAgent, r.presence, r.presence_detail, r.boot_id, r.incarnation,
        r.sync_number, r.last_seen_us, r.conflict_us, r.conflict_detail, r.id)
      .run();
}

constexpr const char* kInsertToken = R"sql(
  INSERT INTO enrolment_tokens (token_hash, created_us, expires_us) VALUES (?, ?, ?))sql";

void insert_enrolment_token(Transaction& tx, const std::string& token_hash,
                            std::int64_t expires_us) {
  Query(tx.db(), kInsertToken, token_hash, tx.now_us(), expires_us).run();
}

constexpr const char* kFindToken = R"sql(
  SELECT id, token_hash, expires_us, used_us, agent_id FROM enrolment_tokens
  WHERE token_hash = ?)sql";

std::optional<EnrolmentTokenRow> find_enrolment_token(Database& db, const std::string& token_hash) {
  Query q(db, kFindToken, token_hash);
  if (!q.step()) return std::nullopt;
  EnrolmentTokenRow r;
  q.read(r.id, r.token_hash, r.expires_us, r.used_us, r.agent_id);
  return r;
}

constexpr const char* kUseToken =
    "UPDATE enrolment_tokens SET used_us = ?, agent_id = ? WHERE id = ?";

void use_enrolment_token(Transaction& tx, std::int64_t id, std::int64_t agent_id) {
  Query(tx.db(), kUseToken, tx.now_us(), agent_id, id).run();
}

}  // namespace rackmark::store
