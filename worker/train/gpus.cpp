#include "worker/train/gpus.hpp"

#include <cstdlib>

#include "common/gpu/nvml.hpp"

namespace rackmark::worker {

VisibleGpus visible_gpus() {
  VisibleGpus found;
  const auto nvml = gpu::Nvml::open(&found.cut_short);
  const gpu::Visible visible = gpu::visible_cards(nvml.get());
  for (const gpu::Card& card : visible.cards) found.names.push_back(gpu::cuda_name(card));
  for (const std::string& sentence : visible.left_out)
    found.cut_short += (found.cut_short.empty() ? "" : "; ") + sentence;
  return found;
}

bool take_gpus(const std::vector<std::string>& gpus, const HostRanks& ranks, std::int64_t each) {
  const auto first = static_cast<std::size_t>(ranks.rank * each);
  const std::size_t end = first + static_cast<std::size_t>(each);
  if (end > gpus.size()) return false;
  std::string list;
  for (std::size_t i = first; i < end; ++i) list += (list.empty() ? "" : ",") + gpus[i];
  ::setenv("CUDA_VISIBLE_DEVICES", list.c_str(), 1);
  ::setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);  // of which indices in the list are
  return true;
}

}  // namespace rackmark::worker
