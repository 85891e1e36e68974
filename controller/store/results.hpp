// Results, as the views that they are shown as: nothing is derived between table and view.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/protocol/runs.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

// All set members must hold.
struct ResultFilter {
  std::optional<std::string> model, mode, precision, device_class, agent, fingerprint, input_kind;
  std::optional<std::int64_t> batch_size, job_id;
  std::optional<std::int64_t> since_us, until_us, before_id;  // created in [since, until)
};

// Once per run: a second one is a StoreError. `id` and `created_at` of the view are ignored.
std::int64_t insert_result(Transaction& tx, const protocol::ResultView& result);
std::optional<protocol::ResultView> find_result_of_run(Database& db, std::int64_t run_id);
std::vector<protocol::ResultView> list_results(Database& db, const ResultFilter& filter,
                                               std::int64_t limit);  // newest first
// Oldest first; for the headline of a job.
std::vector<protocol::ResultView> list_results_of_job(Database& db, std::int64_t job_id);
std::int64_t count_results(Database& db);

}  // namespace rackmark::store
