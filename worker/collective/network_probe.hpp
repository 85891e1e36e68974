// What the network between the ranks of a run can do, measured in well under a second: the points
// from which common/measure/collective_model fits alpha and beta.
#pragma once

#include <vector>

#include "common/protocol/worker_event.hpp"
#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

// Collective, while nothing else is exchanged. fp32 all-reduces from 4 KiB to 4 MiB by the run's
// own algorithm; on a slow network the large sizes are left out, at least two stay. Empty for a
// single rank.
std::vector<protocol::AllReduceTime> time_all_reduces(Communicator& ranks);

}  // namespace rackmark::worker
