// The exchange of whole state with agents, and what silence of one means. Internal to
// controller/service.
#pragma once

#include "common/protocol/agents.hpp"
#include "controller/service/core.hpp"
#include "controller/service/writer.hpp"

namespace rackmark::service {

Result<SyncReply> sync(Core& core, std::int64_t agent_id, protocol::SyncUp up);
Result<protocol::SyncDown> sync_down(Core& core, std::int64_t agent_id);

// Agents silent for 5/4 of the lease are lost, and with them their runs.
void lose_silent_agents(Change& change);
// Runs past their time-out, or whose last batches do not come.
void end_overdue_runs(Change& change);

}  // namespace rackmark::service
