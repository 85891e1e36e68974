#include "controller/store/database.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <unordered_map>

namespace rackmark::store {

namespace {

constexpr std::size_t kStatementsKept = 300;

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) {
  throw StoreError("database " + file.string() + ": " + what);
}

}  // namespace

void create_private(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) fail(file, std::string("cannot be opened for writing: ") + strerror(errno));
  ::close(fd);
}

struct Database::Impl {
  struct Prepared {
    std::unique_ptr<SQLite::Statement> statement;
    bool in_use = false;
  };
  std::unique_ptr<SQLite::Database> connection;
  std::unordered_map<std::string, Prepared> prepared;
};

Database::Database(const std::filesystem::path& file, Access access)
    : impl_(std::make_unique<Impl>()), file_(file) {
  try {
    if (access == Access::kWrite) create_private(file);
    impl_->connection =
        std::make_unique<SQLite::Database>(file.string(), SQLite::OPEN_READWRITE, 10'000);
    auto& connection = *impl_->connection;
    if (access == Access::kWrite) {
      const std::string mode = connection.execAndGet("PRAGMA journal_mode = WAL").getString();
      if (mode != "wal") fail(file, "its file system cannot hold a write-ahead log");
      connection.exec("PRAGMA synchronous = FULL");
      const std::string check = connection.execAndGet("PRAGMA quick_check(1)").getString();
      if (check != "ok") fail(file, "is damaged (" + check + "); restore a backup");
    } else {
      connection.exec("PRAGMA query_only = ON");
    }
    connection.exec("PRAGMA foreign_keys = ON");
  } catch (const SQLite::Exception& e) {
    if (e.getErrorCode() == SQLITE_NOTADB) fail(file, "is not a Rackmark database");
    fail(file, e.what());
  }
}

Database::~Database() {
  impl_->prepared.clear();  // before the connection that they belong to
}

void Database::execute(const std::string& sql) {
  try {
    impl_->connection->exec(sql);
  } catch (const SQLite::Exception& e) {
    fail(file_, e.what());
  }
}

std::int64_t Database::last_id() const { return impl_->connection->getLastInsertRowid(); }

std::int64_t Database::changed() const { return impl_->connection->getChanges(); }

Query::Query(Prepare, Database& db, std::string_view sql) {
  auto& cache = db.impl_->prepared;
  const std::string text(sql);
  try {
    auto found = cache.find(text);
    if (found == cache.end() && cache.size() < kStatementsKept) {
      found = cache
                  .emplace(text, Database::Impl::Prepared{std::make_unique<SQLite::Statement>(
                                     *db.impl_->connection, text)})
                  .first;
    }
    if (found != cache.end() && !found->second.in_use) {
      statement_ = found->second.statement.get();
      in_use_ = &found->second.in_use;  // stable: unordered_map keeps its nodes in place
      *in_use_ = true;
    } else {
      own_ = std::make_unique<SQLite::Statement>(*db.impl_->connection, text);
      statement_ = own_.get();
    }
  } catch (const SQLite::Exception& e) {
    fail(db.file_, std::string(e.what()) + " in: " + text);
  }
}

Query::~Query() {
  if (!in_use_) return;
  statement_->tryReset();
  statement_->clearBindings();
  *in_use_ = false;
}

void Query::bind_null() { statement_->bind(++bound_); }
void Query::bind_integer(std::int64_t value) { statement_->bind(++bound_, value); }
void Query::bind_real(double value) { statement_->bind(++bound_, value); }
void Query::bind_text(std::string_view value) { statement_->bind(++bound_, std::string(value)); }
void Query::bind_blob(std::string_view bytes) {
  statement_->bind(++bound_, bytes.data(), static_cast<int>(bytes.size()));
}

bool Query::step() {
  try {
    return statement_->executeStep();
  } catch (const SQLite::Exception& e) {
    throw StoreError(std::string("database: ") + e.what() + " in: " + statement_->getQuery());
  }
}

void Query::run() {
  while (step()) {
  }
}

bool Query::is_null(int column) const { return statement_->getColumn(column).isNull(); }
std::int64_t Query::integer(int column) const { return statement_->getColumn(column).getInt64(); }
double Query::real(int column) const { return statement_->getColumn(column).getDouble(); }
std::string Query::text(int column) const { return statement_->getColumn(column).getString(); }

std::string Query::blob(int column) const {
  const SQLite::Column value = statement_->getColumn(column);
  const auto* bytes = static_cast<const char*>(value.getBlob());
  return bytes ? std::string(bytes, static_cast<std::size_t>(value.getBytes())) : std::string();
}

nlohmann::json Query::parsed(int column) const {
  auto value = nlohmann::json::parse(text(column), nullptr, false);
  if (value.is_discarded()) wrong_value(column);
  return value;
}

void Query::wrong_value(int column) const {
  throw StoreError("database: column " + std::to_string(column) +
                   " holds a value that this version does not know: '" + text(column) +
                   "' in: " + statement_->getQuery());
}

}  // namespace rackmark::store
