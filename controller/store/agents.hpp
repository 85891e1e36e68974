// Agents and the one-time tokens that enrol them, as rows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/protocol/agents.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

// kLeft: shut down in an orderly way. Only kPresent agents get work.
enum class Presence { kNeverSeen, kPresent, kLeft, kLost };
BOOST_DESCRIBE_ENUM(Presence, kNeverSeen, kPresent, kLeft, kLost)

struct AgentRow {
  std::int64_t id = 0;
  std::string name, token_hash;
  std::map<std::string, std::string> labels;
  std::string device_class;
  bool device_class_given = false;
  protocol::Inventory inventory;
  Presence presence = Presence::kNeverSeen;
  std::string presence_detail, boot_id, incarnation;
  std::int64_t sync_number = 0;
  std::optional<std::int64_t> last_seen_us, conflict_us;
  std::string conflict_detail;
  std::int64_t enrolled_us = 0;
  std::optional<std::int64_t> retired_us;
};

std::int64_t insert_agent(Transaction& tx, const AgentRow& row);
std::optional<AgentRow> find_agent(Database& db, std::int64_t id);
std::optional<AgentRow> find_agent_by_name(Database& db, const std::string& name);
std::vector<AgentRow> list_agents(Database& db);  // without the retired
std::optional<std::string> find_agent_name(Database& db, std::int64_t id);
std::vector<std::string> list_agents_of_last_run(Database& db, std::int64_t job_id);  // head first
std::optional<std::string> find_token_hash(Database& db, std::int64_t id);
void update_agent(Transaction& tx, const AgentRow& row);  // everything but the name
// The columns that every sync writes; update_agent rewrites the inventory too.
void touch_agent(Transaction& tx, const AgentRow& row);

struct EnrolmentTokenRow {
  std::int64_t id = 0;
  std::string token_hash;
  std::int64_t expires_us = 0;
  std::optional<std::int64_t> used_us, agent_id;
};

void insert_enrolment_token(Transaction& tx, const std::string& token_hash,
                            std::int64_t expires_us);
std::optional<EnrolmentTokenRow> find_enrolment_token(Database& db, const std::string& token_hash);
void use_enrolment_token(Transaction& tx, std::int64_t id, std::int64_t agent_id);

}  // namespace rackmark::store
