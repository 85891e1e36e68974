// The life of a job and of a run as pure functions. No I/O, no JSON, no SQL.
#pragma once

#include <boost/describe.hpp>
#include <optional>
#include <string_view>

namespace rackmark {

enum class JobState { kQueued, kRunning, kSucceeded, kFailed, kCancelled };
BOOST_DESCRIBE_ENUM(JobState, kQueued, kRunning, kSucceeded, kFailed, kCancelled)

// reserved -> starting -> warmup -> measuring -> collecting -> succeeded, or any end at any point.
enum class RunState {
  kReserved,
  kStarting,
  kWarmup,
  kMeasuring,
  kCollecting,
  kSucceeded,
  kFailed,
  kCancelled,
  kTimeout,
  kStalled,
  kOutOfMemory,
  kLost
};
BOOST_DESCRIBE_ENUM(RunState, kReserved, kStarting, kWarmup, kMeasuring, kCollecting, kSucceeded,
                    kFailed, kCancelled, kTimeout, kStalled, kOutOfMemory, kLost)

// A newer agent's name for a state: nothing is known of it.
constexpr RunState unknown_name(RunState) { return RunState::kReserved; }

// Why something ended without a number. Closed: stored, exported and compared by name.
enum class Reason {
  kNone,
  kNoValidSteps,
  kNanLoss,
  kMissingRank,
  kWorkerCrashed,
  kLaunchFailed,
  kInputUnavailable,
  kInputBroken,
  kVerifyFailed,
  kDiskFull,
  kOutOfMemory,
  kTimedOut,
  kNoProgress,
  kCancelledByUser,
  kAgentLost,
  kAgentConflict,
  kAgentRestarted,
  kSpecUnsupported,
  kInternal
};
BOOST_DESCRIBE_ENUM(Reason, kNone, kNoValidSteps, kNanLoss, kMissingRank, kWorkerCrashed,
                    kLaunchFailed, kInputUnavailable, kInputBroken, kVerifyFailed, kDiskFull,
                    kOutOfMemory, kTimedOut, kNoProgress, kCancelledByUser, kAgentLost,
                    kAgentConflict, kAgentRestarted, kSpecUnsupported, kInternal)

constexpr Reason unknown_name(Reason) { return Reason::kInternal; }  // a newer agent's name

// Who made a transition happen; stored with each.
enum class Actor { kUser, kScheduler, kAgent, kController };
BOOST_DESCRIBE_ENUM(Actor, kUser, kScheduler, kAgent, kController)

bool is_terminal(JobState state);
bool is_terminal(RunState state);

// True when a run in `from` may be told to be in `to`: only forward through the phases (phases may
// be skipped, since a poll can miss one), any end from any live state, nothing out of a terminal
// state.
bool may_follow(RunState from, RunState to);

// Whether another attempt can help: lost hosts and crashed launches yes; out of memory, a bad
// input, NaN, cancel, time-out never.
bool is_retryable(RunState state, Reason reason);

// The job's state once its last attempt of a repetition ended in `run` and none will follow.
JobState job_state_for(RunState run);

// Exit status of `rackmark submit --watch` and friends: 0 ok, 1 failed, 3 out of memory, 4
// cancelled, 5 timeout or stalled, 6 lost. (2 is bad usage or a refused spec, 7 an unreachable
// controller.) `outcome` is the run state that decided the job.
int exit_status(JobState job, std::optional<RunState> outcome);
inline constexpr int kExitBadUsage = 2;
inline constexpr int kExitUnreachable = 7;

}  // namespace rackmark
