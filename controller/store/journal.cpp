#include "controller/store/journal.hpp"

namespace rackmark::store {

namespace {

std::int64_t one_number(Query&& q) {
  std::int64_t number = 0;
  if (q.step()) q.read(number);
  return number;
}

}  // namespace

constexpr const char* kAddEvent =
    "INSERT INTO event_log (at_us, event, job_id, data) VALUES (?, ?, ?, ?)";

std::int64_t add_event(Transaction& tx, const EventRow& r) {
  Query(tx.db(), kAddEvent, tx.now_us(), r.event, r.job_id, r.data).run();
  return tx.db().last_id();
}

constexpr const char* kListEvents =
    "SELECT id, event, job_id, data FROM event_log WHERE id > ? ORDER BY id LIMIT ?";
constexpr const char* kListEventsOfJob = R"sql(
  SELECT id, event, job_id, data FROM event_log WHERE job_id = ? AND id > ?
  ORDER BY id LIMIT ?)sql";

std::vector<EventRow> list_events(Database& db, std::int64_t after,
                                  std::optional<std::int64_t> job_id, std::int64_t limit) {
  std::vector<EventRow> rows;
  Query q(db, job_id ? kListEventsOfJob : kListEvents);
  if (job_id) q.bind(*job_id);
  q.bind(after);
  q.bind(limit);
  while (q.step()) {
    EventRow& row = rows.emplace_back();
    q.read(row.id, row.event, row.job_id, row.data);
  }
  return rows;
}

// From sqlite_sequence: still right when every row was dropped.
constexpr const char* kNewestEvent = "SELECT seq FROM sqlite_sequence WHERE name = 'event_log'";
constexpr const char* kOldestEvent = "SELECT coalesce(min(id), 0) FROM event_log";

std::int64_t newest_event_id(Database& db) { return one_number(Query(db, kNewestEvent)); }
std::int64_t oldest_event_id(Database& db) { return one_number(Query(db, kOldestEvent)); }

constexpr const char* kBoundEvents = R"sql(
  DELETE FROM event_log WHERE id <= (SELECT coalesce(max(id), 0) FROM event_log) - ?)sql";
constexpr const char* kDropOldEvents = R"sql(
  DELETE FROM event_log
  WHERE id < (SELECT min(id) FROM event_log WHERE at_us >= ?1)
     OR (at_us < ?1 AND NOT EXISTS (SELECT 1 FROM event_log WHERE at_us >= ?1)))sql";

void bound_events(Transaction& tx, std::int64_t keep_rows, std::int64_t older_than_us) {
  Query(tx.db(), kBoundEvents, keep_rows).run();
  Query(tx.db(), kDropOldEvents, older_than_us).run();
}

constexpr const char* kFindReply = R"sql(
  SELECT request_sha256, reply FROM idempotency_keys WHERE key = ? AND created_us >= ?)sql";

std::optional<RememberedReply> find_reply(Database& db, const std::string& key,
                                          std::int64_t not_before_us) {
  Query q(db, kFindReply, key, not_before_us);
  if (!q.step()) return std::nullopt;
  RememberedReply reply;
  q.read(reply.request_sha256, reply.reply);
  return reply;
}

constexpr const char* kRememberReply = R"sql(
  INSERT OR REPLACE INTO idempotency_keys (key, request_sha256, created_us, reply)
  VALUES (?, ?, ?, ?))sql";

void remember_reply(Transaction& tx, const std::string& key, const RememberedReply& reply) {
  Query(tx.db(), kRememberReply, key, reply.request_sha256, tx.now_us(), reply.reply).run();
}

constexpr const char* kForgetReplies = "DELETE FROM idempotency_keys WHERE created_us < ?";

void forget_replies(Transaction& tx, std::int64_t older_than_us) {
  Query(tx.db(), kForgetReplies, older_than_us).run();
}

constexpr const char* kAudit =
    "INSERT INTO audit_log (at_us, who, action, subject, detail) VALUES (?, ?, ?, ?, ?)";

void audit(Transaction& tx, const std::string& who, const std::string& action,
           const std::string& subject, const std::string& detail) {
  Query(tx.db(), kAudit, tx.now_us(), who, action, subject, detail).run();
}

constexpr const char* kFindUuid = "SELECT uuid FROM controller WHERE id = 1";

std::string controller_uuid(Database& db) {
  Query q(db, kFindUuid);
  std::string uuid;
  if (q.step()) q.read(uuid);
  return uuid;
}

constexpr const char* kAdoptUuid = "INSERT INTO controller (id, uuid, created_us) VALUES (1, ?, ?)";

void adopt_uuid(Transaction& tx, const std::string& uuid) {
  Query(tx.db(), kAdoptUuid, uuid, tx.now_us()).run();
}

// A row that is given the values that it has is not written by SQLite; this number, which nothing
// here uses, always is.
void write_something(Transaction& tx) { tx.db().execute("PRAGMA user_version = 0"); }

constexpr const char* kDatabaseBytes = R"sql(
  SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size())sql";

std::int64_t database_bytes(Database& db) { return one_number(Query(db, kDatabaseBytes)); }

}  // namespace rackmark::store
