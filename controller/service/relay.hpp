// "Start this orted", carried from a run's head agent to its other agents. What is kept of it is in
// memory only: both sides list all that is open in every sync, so a restarted controller has it
// again at once. Internal to controller/service.
#pragma once

#include "controller/service/core.hpp"
#include "controller/store/agents.hpp"
#include "controller/store/runs.hpp"

namespace rackmark::service {

// Takes in what the agent lists, and wakes those whom it concerns. A call counts only from the head
// of a live run, with that run's token, for another agent of it; a result only from the agent that
// was called. Anything else is dropped: agents may speak of runs that are over.
void take_relay(Change& change, std::int64_t agent_id, const protocol::SyncUp& up);

// What this agent should know of the relay of one of its live runs.
void add_relay(const Core& core, const store::RunRow& run, const std::vector<store::HostRow>& hosts,
               std::int64_t agent_id, protocol::SyncDown& down);

}  // namespace rackmark::service
