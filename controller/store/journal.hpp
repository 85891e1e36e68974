// What happened: the event log of streams, remembered replies, the audit log, who we are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json/json.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

struct EventRow {
  std::int64_t id = 0;
  std::string event;
  std::optional<std::int64_t> job_id;
  nlohmann::json data;
};
std::int64_t add_event(Transaction& tx, const EventRow& row);  // `id` of row is ignored
std::vector<EventRow> list_events(Database& db, std::int64_t after,
                                  std::optional<std::int64_t> job_id, std::int64_t limit);
std::int64_t newest_event_id(Database& db);
std::int64_t oldest_event_id(Database& db);
void bound_events(Transaction& tx, std::int64_t keep_rows, std::int64_t older_than_us);

struct RememberedReply {
  std::string request_sha256;
  nlohmann::json reply;
};
std::optional<RememberedReply> find_reply(Database& db, const std::string& key,
                                          std::int64_t not_before_us);
void remember_reply(Transaction& tx, const std::string& key, const RememberedReply& reply);
void forget_replies(Transaction& tx, std::int64_t older_than_us);

void audit(Transaction& tx, const std::string& who, const std::string& action,
           const std::string& subject, const std::string& detail = "");

std::string controller_uuid(Database& db);  // "" before adopt_uuid
void adopt_uuid(Transaction& tx, const std::string& uuid);

void write_something(Transaction& tx);  // the same again; commit() tells whether the disk takes it

std::int64_t database_bytes(Database& db);

}  // namespace rackmark::store
