// Whether the agents of a run stand in one allocation of Slurm, as a pure function of what they say
// of themselves.
#pragma once

#include <string>
#include <vector>

#include "common/protocol/agents.hpp"

namespace rackmark::service {

// Slurm's names of these hosts, in their order, when all are different nodes of one allocation of
// one cluster; else none. One host alone has no need of it: none.
std::vector<std::string> nodes_of_one_allocation(
    const std::vector<protocol::Inventory>& inventories);

}  // namespace rackmark::service
