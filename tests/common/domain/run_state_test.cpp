#include "common/domain/run_state.hpp"

#include <gtest/gtest.h>

#include <boost/mp11.hpp>
#include <set>
#include <vector>

namespace rackmark {
namespace {

template <class E>
std::vector<E> all_of_enum() {
  std::vector<E> out;
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>(
      [&](auto d) { out.push_back(d.value); });
  return out;
}

const std::vector<RunState> kPhases = {RunState::kReserved, RunState::kStarting, RunState::kWarmup,
                                       RunState::kMeasuring, RunState::kCollecting};
const std::set<RunState> kEnds = {RunState::kSucceeded, RunState::kFailed,  RunState::kCancelled,
                                  RunState::kTimeout,   RunState::kStalled, RunState::kOutOfMemory,
                                  RunState::kLost};

TEST(RunStates, EveryStateIsAPhaseOrAnEnd) {
  const auto states = all_of_enum<RunState>();
  ASSERT_EQ(states.size(), kPhases.size() + kEnds.size());
  for (const RunState state : states) EXPECT_EQ(is_terminal(state), kEnds.contains(state));
}

// The model: phases only forward, ends from every phase (success not before the start), nothing
// out of an end.
TEST(RunStates, AllPairsFollowTheModel) {
  const auto position = [](RunState state) {
    for (std::size_t i = 0; i < kPhases.size(); ++i) {
      if (kPhases[i] == state) return static_cast<int>(i);
    }
    return -1;
  };
  int allowed = 0;
  for (const RunState from : all_of_enum<RunState>()) {
    for (const RunState to : all_of_enum<RunState>()) {
      bool expected = false;
      if (position(from) >= 0) {
        expected = kEnds.contains(to) ? !(to == RunState::kSucceeded && from == RunState::kReserved)
                                      : position(to) > position(from);
      }
      EXPECT_EQ(may_follow(from, to), expected)
          << static_cast<int>(from) << " -> " << static_cast<int>(to);
      allowed += may_follow(from, to);
    }
  }
  EXPECT_EQ(allowed, 10 + 5 * 7 - 1);  // pairs of phases, ends of each phase, less the one
}

TEST(RunStates, EveryWalkEnds) {
  for (const RunState from : all_of_enum<RunState>()) {
    for (const RunState to : all_of_enum<RunState>()) {
      EXPECT_FALSE(may_follow(from, to) && may_follow(to, from));
    }
  }
}

TEST(RunStates, OnlyWhatCanHelpIsRetried) {
  const std::set<Reason> retried = {Reason::kLaunchFailed, Reason::kAgentRestarted,
                                    Reason::kMissingRank, Reason::kWorkerCrashed};
  for (const RunState state : all_of_enum<RunState>()) {
    for (const Reason reason : all_of_enum<Reason>()) {
      const bool expected =
          state == RunState::kLost || (state == RunState::kFailed && retried.contains(reason));
      EXPECT_EQ(is_retryable(state, reason), expected)
          << static_cast<int>(state) << " " << static_cast<int>(reason);
    }
  }
}

TEST(RunStates, AJobFollowsItsDecidingRun) {
  EXPECT_EQ(job_state_for(RunState::kSucceeded), JobState::kSucceeded);
  EXPECT_EQ(job_state_for(RunState::kCancelled), JobState::kCancelled);
  for (const RunState state : {RunState::kFailed, RunState::kTimeout, RunState::kStalled,
                               RunState::kOutOfMemory, RunState::kLost}) {
    EXPECT_EQ(job_state_for(state), JobState::kFailed);
  }
  for (const RunState phase : kPhases) EXPECT_EQ(job_state_for(phase), JobState::kRunning);
  EXPECT_FALSE(is_terminal(JobState::kQueued));
  EXPECT_FALSE(is_terminal(JobState::kRunning));
  EXPECT_TRUE(is_terminal(JobState::kCancelled));
}

TEST(RunStates, ExitStatusNamesTheOutcome) {
  EXPECT_EQ(exit_status(JobState::kSucceeded, RunState::kSucceeded), 0);
  EXPECT_EQ(exit_status(JobState::kFailed, RunState::kFailed), 1);
  EXPECT_EQ(exit_status(JobState::kFailed, std::nullopt), 1);
  EXPECT_EQ(exit_status(JobState::kFailed, RunState::kOutOfMemory), 3);
  EXPECT_EQ(exit_status(JobState::kCancelled, std::nullopt), 4);
  EXPECT_EQ(exit_status(JobState::kFailed, RunState::kTimeout), 5);
  EXPECT_EQ(exit_status(JobState::kFailed, RunState::kStalled), 5);
  EXPECT_EQ(exit_status(JobState::kFailed, RunState::kLost), 6);
  EXPECT_EQ(kExitBadUsage, 2);
  EXPECT_EQ(kExitUnreachable, 7);
}

}  // namespace
}  // namespace rackmark
