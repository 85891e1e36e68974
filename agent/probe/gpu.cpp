#include "agent/probe/inventory.hpp"
#include "common/gpu/nvml.hpp"

namespace rackmark::agent {

void probe_gpus(protocol::Inventory& into) {
  std::string problem;
  const auto nvml = gpu::Nvml::open(&problem);
  if (!problem.empty()) into.notes.push_back(problem);
  if (!nvml) return;
  if (const auto cuda = nvml->cuda_driver()) into.versions["cuda_driver"] = *cuda;
  const gpu::Visible visible = gpu::visible_cards(nvml.get());
  into.gpus_cut_at = visible.unnamed;
  into.notes.insert(into.notes.end(), visible.left_out.begin(), visible.left_out.end());
  for (const gpu::Card& card : visible.cards) {
    into.gpus.push_back({card.name, card.uuid, card.driver, card.memory_bytes});
  }
}

}  // namespace rackmark::agent
