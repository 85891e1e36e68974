// How many processes a resolved spec wants on each host. Read from its JSON and nothing else of it,
// so that an agent runs what a newer controller resolves.
#pragma once

#include <cstdint>

#include "common/domain/ranks.hpp"
#include "common/error.hpp"
#include "common/json/json.hpp"

namespace rackmark::agent {

struct RankShape {
  RankCounts counts;         // dedicated parameter servers are processes, too
  std::int64_t threads = 0;  // of each worker
};
// kInvalid naming the member when one is missing or out of range.
Result<RankShape> rank_shape(const nlohmann::json& spec, std::int64_t hosts = 1);

}  // namespace rackmark::agent
