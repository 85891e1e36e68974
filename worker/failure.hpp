// How a rank ends without a number, and with which exit status.
#pragma once

#include <stdexcept>
#include <string>

#include "common/domain/run_state.hpp"

namespace rackmark::worker {

// The world is not as the spec wants it: becomes a failure event with this reason, then exit 1.
struct Failure : std::runtime_error {
  Failure(Reason why, const std::string& detail) : std::runtime_error(detail), reason(why) {}
  Reason reason;
};

// SIGTERM arrived: no event, the sender knows; exit 143.
struct Terminated : std::runtime_error {
  Terminated() : std::runtime_error("ended by SIGTERM") {}
};

// Nobody reads the events any more (the agent is gone): exit 4. The numbers would be lost, so going
// on would only occupy the host.
struct EventsLost : std::runtime_error {
  explicit EventsLost(const std::string& why) : std::runtime_error(why) {}
};

// Exit statuses of rackmark-worker; mpirun passes on that of the first rank that ends badly.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;      // a failure event says why
inline constexpr int kExitBadSpec = 2;      // bad usage or a refused spec; nothing was run
inline constexpr int kExitOutOfMemory = 3;  // an out_of_memory event says how much
inline constexpr int kExitEventsLost = 4;
inline constexpr int kExitTerminated = 143;

}  // namespace rackmark::worker
