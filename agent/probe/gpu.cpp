#include "agent/probe/inventory.hpp"
#include "common/gpu/nvml.hpp"

namespace rackmark::agent {

std::vector<protocol::GpuInventory> gpus(std::optional<std::string>& cuda_driver) {
  const auto nvml = gpu::Nvml::open();
  if (!nvml) return {};
  cuda_driver = nvml->cuda_driver();
  std::vector<protocol::GpuInventory> found;
  for (const gpu::Card& card : gpu::visible_cards(nvml.get())) {
    found.push_back({card.name, card.uuid, card.driver, card.memory_bytes});
  }
  return found;
}

}  // namespace rackmark::agent
