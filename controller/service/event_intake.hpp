// Numbered batches of worker events and log lines into the store. Internal to controller/service.
#pragma once

#include "common/protocol/agents.hpp"
#include "controller/service/core.hpp"

namespace rackmark::service {

// An event that does not decode is skipped: a neighbouring version may send what this one does not
// know, and a batch that is refused would be sent again for ever.
Result<protocol::EventReceipt> accept_events(Core& core, std::int64_t agent_id,
                                             const protocol::EventUpload& upload);

}  // namespace rackmark::service
