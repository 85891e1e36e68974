// How long something takes that all ranks do together.
#pragma once

#include <cstdint>
#include <functional>

#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

struct TurnLimits {
  int warm_ups = 3, fewest = 5, most = 25;
  double seconds = 3;  // no further turn once so long has been measured and `fewest` are done
};

struct Turns {
  std::int64_t count = 0;
  double median_s = 0, least_s = 0;
};

// Collective. Every turn starts at a barrier and is as long as its slowest rank; all ranks make
// equally many and get the same answer.
Turns time_turns(Communicator& ranks, const TurnLimits& limits, const std::function<void()>& turn);

}  // namespace rackmark::worker
