// Groups of jobs, as rows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json/json.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::store {

struct GroupRow {
  std::int64_t id = 0;
  std::string kind, name;
  nlohmann::json request;  // as it was accepted
  std::int64_t created_us = 0;
};

std::int64_t insert_group(Transaction& tx, const GroupRow& row);  // `id` and time are ignored
std::optional<GroupRow> find_group(Database& db, std::int64_t id);

struct GroupFilter {
  std::optional<std::string> kind;
  std::optional<std::int64_t> before_id;
  std::int64_t limit = 50;
};
std::vector<GroupRow> list_groups(Database& db, const GroupFilter& filter);  // newest first

}  // namespace rackmark::store
