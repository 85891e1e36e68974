// How a run ended, decided from facts alone. One function, so that every end has one place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/process/guard.hpp"
#include "agent/runs/rank_tracker.hpp"
#include "common/domain/run_state.hpp"
#include "common/json/json.hpp"

namespace rackmark::agent {

// Why the agent itself ended a run. kNone: it did not.
enum class StopCause {
  kNone,
  kCancelled,  // asked by the controller
  kNotWanted,  // the controller does not list it any more
  kTimedOut,
  kStalled,
  kLeaseLost,
  kAgentStopping,
  kDiskFull,
  kAfterFailure  // a rank said that it failed and its run did not end by itself
};

struct EndFacts {
  std::string program = "mpirun";  // that the guard watched; a daemon where another agent leads
  StopCause stop = StopCause::kNone;
  std::string stop_detail;
  std::optional<GuardOutcome> guard;     // nullopt: the guard itself was killed
  std::vector<std::string> last_stderr;  // newest last
  bool memory_killer = false;  // the kernel's out-of-memory killer acted while the run lasted
};

struct RunEnd {
  RunState state = RunState::kFailed;
  Reason reason = Reason::kInternal;
  std::string detail;
  std::optional<std::int64_t> exit_code;
  nlohmann::json memory;
};

// `spec`: of the run, for what an out-of-memory answer names.
RunEnd decide_end(const EndFacts& facts, const RankTracker& ranks, const nlohmann::json& spec);

}  // namespace rackmark::agent
