#include "controller/store/migrate.hpp"

#include <map>
#include <vector>

#include "common/domain/spec.hpp"
#include "controller/store/backup.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

namespace {

constexpr const char* kCreateTable = R"sql(
  CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_us INTEGER NOT NULL
  ) STRICT)sql";

struct Applied {
  std::string name, sha256;
};

constexpr const char* kListApplied =
    "SELECT number, name, sha256 FROM schema_migrations ORDER BY number";

std::map<std::int64_t, Applied> applied(Database& db) {
  std::map<std::int64_t, Applied> out;
  Query q(db, kListApplied);
  while (q.step()) {
    std::int64_t number = 0;
    Applied row;
    q.read(number, row.name, row.sha256);
    out[number] = row;
  }
  return out;
}

constexpr const char* kRecord =
    "INSERT INTO schema_migrations (number, name, sha256, applied_us) VALUES (?, ?, ?, ?)";

void apply(Database& db, const Migration& step, std::int64_t now_us) {
  Transaction tx(db, now_us);
  db.execute(step.sql);
  Query(db, kRecord, step.number, step.name, sha256_hex(step.sql), now_us).run();
  tx.commit();
}

void refuse_unknown(const Database& db, const std::map<std::int64_t, Applied>& done,
                    std::span<const Migration> steps) {
  for (const auto& [number, row] : done) {
    const Migration* step = nullptr;
    for (const Migration& candidate : steps) {
      if (candidate.number == number) step = &candidate;
    }
    const std::string where = "database " + db.file().string() + ": ";
    if (!step) {
      throw StoreError(where + "has schema step " + row.name +
                       ", which this version does not know; start a newer rackmark-controller");
    }
    if (sha256_hex(step->sql) != row.sha256) {
      throw StoreError(where + "schema step " + row.name +
                       " was changed after it had been applied; restore the released file");
    }
  }
}

}  // namespace

std::int64_t migrate(Database& db, std::span<const Migration> steps, std::int64_t now_us) {
  db.execute(kCreateTable);
  const auto done = applied(db);
  refuse_unknown(db, done, steps);
  const std::int64_t newest = done.empty() ? 0 : done.rbegin()->first;
  std::vector<const Migration*> pending;
  for (const Migration& step : steps) {
    if (done.contains(step.number)) continue;
    if (step.number < newest) {
      throw StoreError("database " + db.file().string() + ": schema step " + step.name +
                       " comes before the newest one applied; give it the next number");
    }
    pending.push_back(&step);
  }
  if (!done.empty() && !pending.empty()) back_up(db, now_us);  // there is no way back but this
  for (const Migration* step : pending) apply(db, *step, now_us);
  return schema_number(db);
}

std::int64_t schema_number(Database& db) {
  Query q(db, "SELECT coalesce(max(number), 0) FROM schema_migrations");
  std::int64_t number = 0;
  if (q.step()) q.read(number);
  return number;
}

}  // namespace rackmark::store
