// How a parameter server's variables are cut into shards and spread over servers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"

namespace rackmark::worker {

// A contiguous range of the parameter block. The first shard holds what backward finishes first;
// the last one what the next forward pass needs first.
struct Shard {
  TrainPlan::Extent range;
  std::int64_t server = 0;
};

// Ranges in block order: neighbouring variables together as long as they fit into `shard_bytes`, a
// larger variable cut into equal pieces that do. Each goes to the server that has the fewest bytes
// so far, so that all servers have work from the beginning of the backward pass to its end.
std::vector<Shard> make_shards(const TrainPlan& plan, std::int64_t shard_bytes,
                               std::int64_t servers);

// For ranks without a plan.
std::string shards_to_text(const std::vector<Shard>& shards);
std::vector<Shard> shards_from_text(const std::string& text);

}  // namespace rackmark::worker
