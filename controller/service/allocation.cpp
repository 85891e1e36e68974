#include "controller/service/allocation.hpp"

#include <algorithm>

namespace rackmark::service {

std::vector<std::string> nodes_of_one_allocation(
    const std::vector<protocol::Inventory>& inventories) {
  if (inventories.size() < 2) return {};
  const auto& first = inventories.front().slurm;
  std::vector<std::string> nodes;
  for (const protocol::Inventory& host : inventories) {
    const bool same = host.slurm && first && host.slurm->job_id == first->job_id &&
                      host.slurm->cluster == first->cluster;
    if (!same) return {};
    if (std::find(nodes.begin(), nodes.end(), host.slurm->node) != nodes.end()) return {};
    nodes.push_back(host.slurm->node);
  }
  return nodes;
}

}  // namespace rackmark::service
