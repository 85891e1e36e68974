#include "common/protocol/agents.hpp"

#include <tuple>

namespace rackmark::protocol {

std::size_t likely_culprit(const std::vector<StallReport>& reports) {
  const auto key = [](const StallReport& r) {
    const bool stopped = r.process_state.starts_with("T") || r.process_state.starts_with("t");
    return std::tuple(!stopped, r.steps, -r.silent_s);
  };
  std::size_t found = 0;
  for (std::size_t i = 1; i < reports.size(); ++i) {
    if (key(reports[i]) < key(reports[found])) found = i;
  }
  return found;
}

}  // namespace rackmark::protocol

RACKMARK_JSON_HERE(rackmark::protocol::CpuInventory)
RACKMARK_JSON_HERE(rackmark::protocol::GpuInventory)
RACKMARK_JSON_HERE(rackmark::protocol::SlurmAllocation)
RACKMARK_JSON_HERE(rackmark::protocol::Inventory)
RACKMARK_JSON_HERE(rackmark::protocol::EnrolmentTokenRequest)
RACKMARK_JSON_HERE(rackmark::protocol::EnrolmentToken)
RACKMARK_JSON_HERE(rackmark::protocol::Enrolment)
RACKMARK_JSON_HERE(rackmark::protocol::Enrolled)
RACKMARK_JSON_HERE(rackmark::protocol::StallReport)
RACKMARK_JSON_HERE(rackmark::protocol::ObservedRun)
RACKMARK_JSON_HERE(rackmark::protocol::RelayCall)
RACKMARK_JSON_HERE(rackmark::protocol::RelayResult)
RACKMARK_JSON_HERE(rackmark::protocol::SyncUp)
RACKMARK_JSON_HERE(rackmark::protocol::WantedRun)
RACKMARK_JSON_HERE(rackmark::protocol::SyncDown)
RACKMARK_JSON_HERE(rackmark::protocol::LogLine)
RACKMARK_JSON_HERE(rackmark::protocol::EventBatch)
RACKMARK_JSON_HERE(rackmark::protocol::EventUpload)
RACKMARK_JSON_HERE(rackmark::protocol::AcceptedBatch)
RACKMARK_JSON_HERE(rackmark::protocol::EventReceipt)
RACKMARK_JSON_HERE(rackmark::protocol::AgentView)
RACKMARK_JSON_HERE(rackmark::protocol::AgentList)
