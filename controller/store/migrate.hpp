// The schema, brought forward step by step.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "controller/store/database.hpp"

namespace rackmark::store {

struct Migration {
  std::int64_t number = 0;
  std::string name, sql;
};

// migrations/*.sql, as built into this program, in order of their numbers.
std::span<const Migration> embedded_migrations();

// Runs what is missing, each in its own transaction, and records it with its SHA-256; a database
// that has rows of older steps is backed up before. Returns the number of the newest. Throws
// StoreError when an old one was changed or renumbered, or the database is newer than `steps`; the
// database is unchanged then.
std::int64_t migrate(Database& db, std::span<const Migration> steps, std::int64_t now_us);

std::int64_t schema_number(Database& db);  // 0: never migrated

}  // namespace rackmark::store
