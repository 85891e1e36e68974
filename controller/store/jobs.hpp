// Jobs, as rows.
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

using Labels = std::map<std::string, std::string>;

struct JobRow {
  std::int64_t id = 0;
  std::optional<std::int64_t> group_id, rerun_of;
  std::string name;
  Labels labels;
  std::string spec_submitted, spec_resolved, spec_key;
  std::string model, mode, precision, device, variable_update, input_kind;
  std::int64_t batch_size = 0, priority = 0, agents_wanted = 1;
  Labels selector;
  std::string wanted = "run";  // or "cancel"
  JobState state = JobState::kQueued;
  std::optional<RunState> outcome;
  Reason reason = Reason::kNone;
  std::string detail;
  std::optional<std::int64_t> next_repetition, next_attempt;
  std::string device_class;
  std::optional<double> images_per_second, spread;
  std::string spread_kind;
  std::int64_t headline_runs = 0;
  std::optional<std::string> verdict;
  std::vector<std::string> causes, not_checked;
  std::int64_t created_us = 0;
  std::optional<std::int64_t> started_us, ended_us;

  bool cancel_wanted() const { return wanted == "cancel"; }
};

// All set members must hold.
struct JobFilter {
  std::optional<JobState> state;
  bool active = false;  // queued or running
  std::optional<std::string> model, mode, precision, device_class;
  std::optional<std::string> agent;                           // name; of any of its runs
  std::optional<std::string> name_part;                       // anywhere in it, any case
  std::optional<std::pair<std::string, std::string>> label;   // key, value
  std::optional<std::int64_t> since_us, until_us, before_id;  // created in [since, until)
};

std::int64_t insert_job(Transaction& tx, const JobRow& row);  // `id` of row is ignored
std::optional<JobRow> find_job(Database& db, std::int64_t id);
std::vector<JobRow> list_jobs(Database& db, const JobFilter& filter,
                              std::int64_t limit);                            // newest first
std::vector<JobRow> list_jobs_of_group(Database& db, std::int64_t group_id);  // oldest first
// The observed columns: everything from spec_resolved and state on, but not `wanted`.
void update_job(Transaction& tx, const JobRow& row);
void want_cancelled(Transaction& tx, std::int64_t job_id);  // the wanted column, of its runs too

// Jobs with a run to place, first come first.
std::vector<JobRow> list_waiting_jobs(Database& db);
std::map<JobState, std::int64_t> count_jobs(Database& db);
std::int64_t count_active_jobs(Database& db);  // queued or running
std::optional<std::int64_t> oldest_queued_us(Database& db);

}  // namespace rackmark::store
