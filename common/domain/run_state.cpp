#include "common/domain/run_state.hpp"

namespace rackmark {

bool is_terminal(JobState state) {
  return state == JobState::kSucceeded || state == JobState::kFailed ||
         state == JobState::kCancelled;
}

bool is_terminal(RunState state) { return state >= RunState::kSucceeded; }

bool may_follow(RunState from, RunState to) {
  if (is_terminal(from)) return false;
  if (to == RunState::kSucceeded) return from != RunState::kReserved;  // a sync can miss phases
  if (is_terminal(to)) return true;
  return to > from;
}

bool is_retryable(RunState state, Reason reason) {
  if (state == RunState::kLost) return true;
  return state == RunState::kFailed &&
         (reason == Reason::kLaunchFailed || reason == Reason::kAgentRestarted ||
          reason == Reason::kMissingRank || reason == Reason::kWorkerCrashed);
}

JobState job_state_for(RunState run) {
  if (run == RunState::kSucceeded) return JobState::kSucceeded;
  if (run == RunState::kCancelled) return JobState::kCancelled;
  return is_terminal(run) ? JobState::kFailed : JobState::kRunning;
}

int exit_status(JobState job, std::optional<RunState> outcome) {
  if (job == JobState::kSucceeded) return 0;
  if (job == JobState::kCancelled) return 4;
  switch (outcome.value_or(RunState::kFailed)) {
    case RunState::kOutOfMemory:
      return 3;
    case RunState::kCancelled:
      return 4;
    case RunState::kTimeout:
    case RunState::kStalled:
      return 5;
    case RunState::kLost:
      return 6;
    default:
      return 1;
  }
}

}  // namespace rackmark
