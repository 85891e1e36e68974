#include "controller/store/groups.hpp"

#include <limits>

namespace rackmark::store {

namespace {

const std::string kGroupColumns = "id, kind, name, request, created_us";

GroupRow read_group(Query& q) {
  GroupRow r;
  q.read(r.id, r.kind, r.name, r.request, r.created_us);
  return r;
}

}  // namespace

constexpr const char* kInsertGroup =
    "INSERT INTO job_groups (kind, name, request, created_us) VALUES (?, ?, ?, ?)";

std::int64_t insert_group(Transaction& tx, const GroupRow& r) {
  Query(tx.db(), kInsertGroup, r.kind, r.name, r.request, tx.now_us()).run();
  return tx.db().last_id();
}

const std::string kFindGroup = "SELECT " + kGroupColumns + " FROM job_groups WHERE id = ?";

std::optional<GroupRow> find_group(Database& db, std::int64_t id) {
  Query q(db, kFindGroup, id);
  if (!q.step()) return std::nullopt;
  return read_group(q);
}

const std::string kListGroups =
    "SELECT " + kGroupColumns +
    " FROM job_groups WHERE id < ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?3";

std::vector<GroupRow> list_groups(Database& db, const GroupFilter& filter) {
  Query q(db, kListGroups, filter.before_id.value_or(std::numeric_limits<std::int64_t>::max()),
          filter.kind, filter.limit);
  std::vector<GroupRow> rows;
  while (q.step()) rows.push_back(read_group(q));
  return rows;
}

}  // namespace rackmark::store
