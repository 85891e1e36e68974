#include "worker/train/gpus.hpp"

#include <cstdlib>

#include "common/gpu/nvml.hpp"

namespace rackmark::worker {

std::vector<std::string> visible_gpus() {
  const auto nvml = gpu::Nvml::open();
  std::vector<std::string> uuids;
  for (const gpu::Card& card : gpu::visible_cards(nvml.get())) uuids.push_back(card.uuid);
  return uuids;
}

bool take_gpus(const std::vector<std::string>& gpus, const HostRanks& ranks, std::int64_t each) {
  const auto first = static_cast<std::size_t>(ranks.rank * each);
  const std::size_t end = first + static_cast<std::size_t>(each);
  if (end > gpus.size()) return false;
  std::string list;
  for (std::size_t i = first; i < end; ++i) list += (list.empty() ? "" : ",") + gpus[i];
  ::setenv("CUDA_VISIBLE_DEVICES", list.c_str(), 1);
  return true;
}

}  // namespace rackmark::worker
