// Runs (one attempt of one repetition of a job), their hosts and their transitions, as rows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/run_state.hpp"
#include "common/json/json.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

struct RunRow {
  std::int64_t id = 0, job_id = 0, repetition = 1, attempt = 1;
  std::int64_t agent_id = 0;  // head of the gang
  std::string device_class, spec_resolved, spec_key;
  std::int64_t ranks = 1, images_per_step = 0;
  std::string run_token;
  double timeout_s = 0;
  std::string wanted = "run";  // or "cancel"
  RunState state = RunState::kReserved;
  Reason reason = Reason::kNone;
  std::string detail;
  std::optional<std::int64_t> exit_code;
  nlohmann::json memory;
  std::string network;  // CIDR on which its agents talk; "" with one agent
  // What the ends on all agents come to, while their last event batches are still on their way.
  std::optional<RunState> reported_state;
  Reason reported_reason = Reason::kNone;
  std::string reported_detail;
  std::optional<std::int64_t> reported_us, reported_agent_us;
  std::string phase;
  std::int64_t steps_done = 0;
  std::optional<std::int64_t> steps_planned;
  std::optional<double> images_per_second, loss;
  std::int64_t log_lines = 0;
  std::int64_t created_us = 0;
  std::optional<std::int64_t> started_us, ended_us;

  bool cancel_wanted() const { return wanted == "cancel"; }
};

// A host of a run. It is taken until `released_us`.
struct HostRow {
  std::int64_t run_id = 0, agent_id = 0, position = 0;
  std::string told_incarnation, seen_incarnation;  // process of the agent; "" = none yet
  std::int64_t accepted_seq = 0;
  std::optional<std::int64_t> accepted_us, released_us;
  // How the run ended on this host; nullopt while it has not.
  std::optional<RunState> end_state;
  Reason end_reason = Reason::kNone;
  std::string end_detail;
  std::optional<std::int64_t> end_us, end_agent_us;
  std::int64_t end_seq = 0;  // its last event batch
  std::optional<std::int64_t> end_exit_code;
  nlohmann::json end_memory;
  nlohmann::json stall;  // protocol::StallReport, or null
};

struct TransitionRow {
  std::int64_t job_id = 0;
  std::optional<std::int64_t> run_id;  // nullopt: of the job itself
  std::string state;
  Actor actor = Actor::kController;
  Reason reason = Reason::kNone;
  std::string detail;
  std::int64_t at_us = 0;  // set by add_transition
  std::optional<std::int64_t> agent_at_us;
};

// `hosts`: agent ids, head first. Throws StoreError when a host is taken.
std::int64_t insert_run(Transaction& tx, const RunRow& row, const std::vector<std::int64_t>& hosts);
std::optional<RunRow> find_run(Database& db, std::int64_t id);
std::vector<RunRow> list_runs_of_job(Database& db, std::int64_t job_id);  // oldest first
std::vector<RunRow> list_live_runs(Database& db);
std::vector<RunRow> list_live_runs_of_agent(Database& db, std::int64_t agent_id);
// Observed columns, not `wanted` and not what placement fixed.
void update_run(Transaction& tx, const RunRow& row);
std::map<RunState, std::int64_t> count_runs(Database& db);

std::vector<HostRow> list_hosts(Database& db, std::int64_t run_id);  // head first
std::optional<HostRow> find_host(Database& db, std::int64_t run_id, std::int64_t agent_id);
std::vector<HostRow> list_taken_hosts(Database& db);  // not released, of all agents
std::vector<HostRow> list_taken_hosts(Database& db, std::int64_t agent_id);
void update_host(Transaction& tx, const HostRow& row);

void add_transition(Transaction& tx, TransitionRow row);
std::vector<TransitionRow> list_transitions(Database& db, std::int64_t run_id);
std::vector<TransitionRow> list_transitions_of_job(
    Database& db, std::int64_t job_id);  // without those of its runs

// Median seconds from placement to end of the newest (at most 5) successful runs with this key.
std::optional<double> past_duration_s(Database& db, const std::string& spec_key);

}  // namespace rackmark::store
