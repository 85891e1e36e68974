// A copy of the whole database, made while everybody goes on.
#pragma once

#include <cstdint>
#include <filesystem>

#include "controller/store/database.hpp"

namespace rackmark::store {

// Writes what is committed into a file beside the database (0600), named for the time:
// rackmark.db.2026-11-22T143005Z. It is whole or not there. `db` is a writer's connection without
// an open transaction; one call at a time for each database. Throws StoreError.
std::filesystem::path back_up(Database& db, std::int64_t now_us);

}  // namespace rackmark::store
