#include "controller/store/logs.hpp"

#include <algorithm>

namespace rackmark::store {

namespace {

std::vector<LogRow> read_logs(Query&& q) {
  std::vector<LogRow> rows;
  while (q.step()) {
    LogRow& row = rows.emplace_back();
    q.read(row.number, row.rank, row.stream, row.at_us, row.text);
  }
  return rows;
}

}  // namespace

constexpr const char* kAddLine = R"sql(
  INSERT INTO log_lines (run_id, number, rank, stream, at_us, text) VALUES (?, ?, ?, ?, ?, ?))sql";

void add_log_line(Transaction& tx, std::int64_t run_id, const LogRow& r) {
  Query(tx.db(), kAddLine, run_id, r.number, r.rank, r.stream, r.at_us, r.text).run();
}

constexpr const char* kDropMiddle =
    "DELETE FROM log_lines WHERE run_id = ? AND number > ? AND number <= ?";

void bound_log(Transaction& tx, std::int64_t run_id, std::int64_t last_number) {
  if (last_number <= kFirstLines + kLastLines) return;
  Query(tx.db(), kDropMiddle, run_id, kFirstLines, last_number - kLastLines).run();
}

constexpr const char* kListLog = R"sql(
  SELECT number, rank, stream, at_us, text FROM log_lines
  WHERE run_id = ? AND number > ? ORDER BY number LIMIT ?)sql";

std::vector<LogRow> list_log(Database& db, std::int64_t run_id, std::int64_t after,
                             std::int64_t limit) {
  return read_logs(Query(db, kListLog, run_id, after, limit));
}

constexpr const char* kTailLog = R"sql(
  SELECT number, rank, stream, at_us, text FROM log_lines
  WHERE run_id = ? ORDER BY number DESC LIMIT ?)sql";

std::vector<LogRow> tail_log(Database& db, std::int64_t run_id, std::int64_t count) {
  auto rows = read_logs(Query(db, kTailLog, run_id, count));
  std::reverse(rows.begin(), rows.end());
  return rows;
}

}  // namespace rackmark::store
