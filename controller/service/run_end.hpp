// What the ends of a run on each of its agents come to together. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/run_state.hpp"
#include "common/json/json.hpp"
#include "common/protocol/agents.hpp"

namespace rackmark::service {

struct HostEnd {  // of one agent
  std::string agent;
  RunState state = RunState::kFailed;
  Reason reason = Reason::kNone;
  std::string detail;
  std::optional<std::int64_t> exit_code;
  nlohmann::json memory;
  std::optional<std::int64_t> agent_at_us;  // nullopt: the controller's own finding
  std::optional<protocol::StallReport> stall;
};

struct RunEnding {
  RunState state = RunState::kFailed;
  Reason reason = Reason::kInternal;
  std::string detail;
  std::optional<std::int64_t> exit_code;
  nlohmann::json memory;
  std::optional<std::int64_t> agent_at_us;
};

// `ends`: head first, not empty. When one agent's part fails, the others' parts die of it, each in
// its own way; the end that says why comes first: out of memory, what a rank itself said, a stall,
// a time-out, a lost agent, a crash. Agents that only ended because the controller told them so
// (cancelled) are no cause, unless that is what the user asked for. Of several stalls, the one of
// the likely culprit counts.
RunEnding ending_of(const std::vector<HostEnd>& ends, bool cancel_wanted);

}  // namespace rackmark::service
