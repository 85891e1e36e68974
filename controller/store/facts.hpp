// What ranks said of themselves (hello, phase, failure, out_of_memory, summary) and telemetry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json/json.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

inline constexpr std::int64_t kFactsKept = 20'000;     // per run; more is refused silently
inline constexpr std::int64_t kTelemetryKept = 600;    // per run that is over
inline constexpr std::int64_t kTelemetryLive = 2'400;  // per run under way, before thinning

struct FactRow {
  std::int64_t rank = 0;
  std::string type;
  std::int64_t t_ns = 0;
  nlohmann::json data;  // the event as it came
};

void add_fact(Transaction& tx, std::int64_t run_id, const FactRow& row);
std::vector<FactRow> list_facts(Database& db, std::int64_t run_id, const std::string& type);

// The first one stays; a later one of the same run is ignored.
void add_profile(Transaction& tx, std::int64_t run_id, const nlohmann::json& data);
std::optional<nlohmann::json> find_profile(Database& db, std::int64_t run_id);

void add_telemetry(Transaction& tx, std::int64_t run_id, const FactRow& row);
std::vector<FactRow> list_telemetry(Database& db, std::int64_t run_id);  // oldest first
// Drops every second row until at most `keep` are left.
void thin_telemetry(Transaction& tx, std::int64_t run_id, std::int64_t keep);

}  // namespace rackmark::store
