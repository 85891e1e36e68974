// Log lines of runs, numbered from 1. Bounded: the first 2,000 and the last 20,000 are kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controller/store/transaction.hpp"

namespace rackmark::store {

inline constexpr std::int64_t kFirstLines = 2'000, kLastLines = 20'000;

struct LogRow {
  std::int64_t number = 0, rank = -1;
  std::string stream;
  std::optional<std::int64_t> at_us;  // agent's clock
  std::string text;
};

void add_log_line(Transaction& tx, std::int64_t run_id, const LogRow& row);
// After adding up to `last_number`: drops what is beyond the bound.
void bound_log(Transaction& tx, std::int64_t run_id, std::int64_t last_number);
std::vector<LogRow> list_log(Database& db, std::int64_t run_id, std::int64_t after,
                             std::int64_t limit);
std::vector<LogRow> tail_log(Database& db, std::int64_t run_id, std::int64_t count);

}  // namespace rackmark::store
