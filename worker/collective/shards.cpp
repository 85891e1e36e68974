#include "worker/collective/shards.hpp"

#include <algorithm>

#include "common/json/json.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kBytesOfFloat = static_cast<std::int64_t>(sizeof(float));

std::vector<TrainPlan::Extent> in_block_order(const TrainPlan& plan) {
  std::vector<TrainPlan::Extent> extents;
  for (std::size_t p = 0; p < plan.net().parameters().size(); ++p) {
    extents.push_back(plan.extent(static_cast<int>(p)));
  }
  std::sort(extents.begin(), extents.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  return extents;
}

void add_pieces(std::vector<Shard>& shards, const TrainPlan::Extent& extent, std::int64_t most) {
  const std::int64_t pieces = (extent.count + most - 1) / most;
  for (std::int64_t i = 0; i < pieces; ++i) {
    const std::int64_t from = extent.count * i / pieces, to = extent.count * (i + 1) / pieces;
    shards.push_back({{extent.offset + from, to - from}, 0});
  }
}

}  // namespace

std::vector<Shard> make_shards(const TrainPlan& plan, std::int64_t shard_bytes,
                               std::int64_t servers) {
  const std::int64_t most = std::max<std::int64_t>(1, shard_bytes / kBytesOfFloat);
  std::vector<Shard> shards;
  bool open = false;  // the last shard may take more variables
  for (const TrainPlan::Extent& extent : in_block_order(plan)) {
    const std::int64_t end = extent.offset + extent.count;
    if (open && end - shards.back().range.offset <= most) {
      shards.back().range.count = end - shards.back().range.offset;
      continue;
    }
    open = extent.count <= most;
    add_pieces(shards, extent, most);
  }
  std::vector<std::int64_t> load(static_cast<std::size_t>(servers));
  for (Shard& shard : shards) {
    const auto least = std::min_element(load.begin(), load.end());
    shard.server = least - load.begin();
    *least += shard.range.count;
  }
  return shards;
}

std::string shards_to_text(const std::vector<Shard>& shards) {
  nlohmann::json list = nlohmann::json::array();
  for (const Shard& s : shards) list.push_back({s.range.offset, s.range.count, s.server});
  return list.dump();
}

std::vector<Shard> shards_from_text(const std::string& text) {
  std::vector<Shard> shards;
  for (const auto& row : nlohmann::json::parse(text)) {
    shards.push_back({{row.at(0), row.at(1)}, row.at(2)});
  }
  return shards;
}

}  // namespace rackmark::worker
