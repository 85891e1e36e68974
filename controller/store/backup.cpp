#include "controller/store/backup.hpp"

#include <algorithm>
#include <system_error>

#include "common/clock.hpp"

namespace rackmark::store {

namespace {

namespace fs = std::filesystem;

fs::path beside(const fs::path& database, const std::string& name) {
  return database.string() + "." + name;
}

std::string second_of(std::int64_t now_us) {
  std::string text = rfc3339(now_us).substr(0, std::string_view("2026-11-22T14:30:05").size());
  std::erase(text, ':');
  return text + "Z";
}

}  // namespace

fs::path back_up(Database& db, std::int64_t now_us) {
  const fs::path unfinished = beside(db.file(), "backup-under-way");
  const fs::path whole = beside(db.file(), second_of(now_us));
  std::error_code error;
  fs::remove(unfinished, error);  // of a controller that was killed
  create_private(unfinished);     // SQLite writes into a file that is empty
  try {
    Query(db, "VACUUM INTO ?", unfinished.string()).run();
    fs::rename(unfinished, whole, error);
    if (error) throw StoreError("backup " + whole.string() + ": " + error.message());
  } catch (...) {
    fs::remove(unfinished, error);
    throw;
  }
  return whole;
}

}  // namespace rackmark::store
