#include "agent/runs/outcome.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/runs/host_facts.hpp"

namespace rackmark::agent {
namespace {

RankTracker ranks_that_said(int count, std::initializer_list<Json> events) {
  RankTracker ranks(count, std::nullopt, 0);
  for (const auto& event : events) EXPECT_TRUE(ranks.take(event, 1)) << event;
  return ranks;
}

EndFacts ended(std::optional<std::int64_t> code, std::int64_t signal = 0) {
  EndFacts facts;
  facts.guard = GuardOutcome{GuardCause::kExited, code, signal, "", true, ""};
  return facts;
}

const Json kHello0 = {{"type", "hello"}, {"rank", 0}, {"host", "alpha"}};
const Json kHello1 = {{"type", "hello"}, {"rank", 1}, {"host", "alpha"}};
const Json kSummary0 = {{"type", "summary"}, {"rank", 0}};
const Json kSummary1 = {{"type", "summary"}, {"rank", 1}};
const Json kSpec = {{"model", "resnet50"}, {"precision", "fp32"}, {"batch_size", 16}};

TEST(Outcome, SucceedsOnlyWithEverySummaryAndExitZero) {
  const auto all = ranks_that_said(2, {kHello0, kHello1, kSummary0, kSummary1});
  const RunEnd end = decide_end(ended(0), all, kSpec);
  EXPECT_EQ(end.state, RunState::kSucceeded);
  EXPECT_EQ(end.reason, Reason::kNone);
  EXPECT_EQ(decide_end(ended(1), all, kSpec).reason, Reason::kWorkerCrashed);
  const auto one = ranks_that_said(2, {kHello0, kHello1, kSummary0});
  const RunEnd missing = decide_end(ended(0), one, kSpec);
  EXPECT_EQ(missing.reason, Reason::kMissingRank);
  EXPECT_EQ(missing.detail, "rank 1 on alpha (launch) ended without a summary");
}

TEST(Outcome, ARunThatWasOverBeforeTheCancelReachedItKeepsItsResult) {
  EndFacts facts = ended(0);
  facts.stop = StopCause::kCancelled;
  const auto all = ranks_that_said(1, {kHello0, kSummary0});
  EXPECT_EQ(decide_end(facts, all, kSpec).state, RunState::kSucceeded);
  facts.guard->cause = GuardCause::kStopped;
  EXPECT_EQ(decide_end(facts, all, kSpec).state, RunState::kCancelled);
}

// mpirun sometimes prints only "a non-zero exit code" and passes the signal on in its status.
TEST(Outcome, ASignalInMpirunsStatusNamesTheRanksThatDidNotFinish) {
  const auto one = ranks_that_said(2, {kHello0, kHello1, kSummary0});
  RunEnd end = decide_end(ended(128 + 11), one, kSpec);
  EXPECT_EQ(end.reason, Reason::kWorkerCrashed);
  EXPECT_EQ(end.detail, "rank 1 on alpha (launch) ended on signal 11 (Segmentation fault)");
  const auto none = ranks_that_said(2, {kHello0, kHello1});
  end = decide_end(ended(128 + 9), none, kSpec);
  EXPECT_EQ(end.detail,
            "one of rank 0 on alpha (launch), rank 1 on alpha (launch) ended on signal 9 (Killed)");
  EndFacts facts = ended(128 + 9);
  facts.memory_killer = true;
  EXPECT_EQ(decide_end(facts, none, kSpec).state, RunState::kOutOfMemory);
}

TEST(Outcome, SrunNamesTheRankAsMpirunDoes) {
  const auto ranks = ranks_that_said(2, {kHello0, kHello1});
  EndFacts facts = ended(128 + 9);
  facts.program = "srun";
  facts.last_stderr = {"srun: error: node2: task 1: Killed",
                       "srun: launch/slurm: _step_signal: Terminating StepId=7.3"};
  EXPECT_EQ(decide_end(facts, ranks, kSpec).detail,
            "rank 1 on alpha (launch) ended on signal 9 (Killed)");
  facts.last_stderr = {"slurmstepd-node1: error: execve(): /x: No such file or directory"};
  facts.guard->exit_code = 2;
  const RunEnd end = decide_end(facts, ranks_that_said(2, {}), kSpec);
  EXPECT_EQ(end.reason, Reason::kLaunchFailed);
  EXPECT_EQ(end.detail,
            "no rank said hello; srun ended with exit status 2: slurmstepd-node1: error: execve(): "
            "/x: No such file or directory");
}

TEST(Outcome, EveryStopHasItsOwnEnd) {
  const struct {
    StopCause stop;
    RunState state;
    Reason reason;
  } rows[] = {{StopCause::kCancelled, RunState::kCancelled, Reason::kCancelledByUser},
              {StopCause::kNotWanted, RunState::kCancelled, Reason::kCancelledByUser},
              {StopCause::kTimedOut, RunState::kTimeout, Reason::kTimedOut},
              {StopCause::kStalled, RunState::kStalled, Reason::kNoProgress},
              {StopCause::kLeaseLost, RunState::kLost, Reason::kAgentLost},
              {StopCause::kAgentStopping, RunState::kFailed, Reason::kAgentRestarted},
              {StopCause::kDiskFull, RunState::kFailed, Reason::kDiskFull}};
  for (const auto& row : rows) {
    EndFacts facts = ended(std::nullopt, 15);
    facts.guard->cause = GuardCause::kStopped;
    facts.stop = row.stop;
    facts.stop_detail = "because";
    const RunEnd end = decide_end(facts, ranks_that_said(1, {kHello0}), kSpec);
    EXPECT_EQ(end.state, row.state);
    EXPECT_EQ(end.reason, row.reason);
    EXPECT_EQ(end.detail, "because");
  }
}

TEST(Outcome, OutOfMemoryCarriesTheFacts) {
  const auto ranks = ranks_that_said(1, {kHello0,
                                         {{"type", "out_of_memory"},
                                          {"rank", 0},
                                          {"model", "resnet50"},
                                          {"precision", "fp32"},
                                          {"batch_size", 512},
                                          {"bytes_wanted", 9000},
                                          {"bytes_free", 100},
                                          {"limited_by", "GPU memory"}}});
  const RunEnd end = decide_end(ended(1), ranks, kSpec);
  EXPECT_EQ(end.state, RunState::kOutOfMemory);
  EXPECT_EQ(end.reason, Reason::kOutOfMemory);
  EXPECT_EQ(end.memory["bytes_wanted"], 9000);
  EXPECT_EQ(end.memory["limited_by"], "GPU memory");
  EXPECT_THAT(end.detail, testing::HasSubstr("9000 bytes wanted, 100 bytes free (GPU memory)"));
  EXPECT_EQ(end.exit_code, 1);
}

TEST(Outcome, AFailureEventIsTheReasonAndAnUnknownOneIsInternal) {
  auto with_reason = [](const char* reason) {
    return ranks_that_said(
        1, {kHello0, {{"type", "failure"}, {"rank", 0}, {"reason", reason}, {"detail", "d"}}});
  };
  EXPECT_EQ(decide_end(ended(1), with_reason("nan_loss"), kSpec).reason, Reason::kNanLoss);
  EXPECT_EQ(decide_end(ended(1), with_reason("input_broken"), kSpec).reason, Reason::kInputBroken);
  EXPECT_EQ(decide_end(ended(1), with_reason("bored"), kSpec).reason, Reason::kInternal);
  EXPECT_EQ(decide_end(ended(1), with_reason("none"), kSpec).reason, Reason::kInternal);
}

TEST(Outcome, NobodySaidHello) {
  EndFacts facts = ended(7);
  facts.last_stderr = {"-------", "cannot load libdnnl.so.2"};
  const RunEnd end = decide_end(facts, RankTracker(2, std::nullopt, 0), kSpec);
  EXPECT_EQ(end.reason, Reason::kLaunchFailed);
  EXPECT_NE(end.detail.find("cannot load libdnnl.so.2"), std::string::npos) << end.detail;
  facts.guard = GuardOutcome{GuardCause::kNotStarted, {}, 0, "cannot start mpirun", true, ""};
  EXPECT_EQ(decide_end(facts, RankTracker(2, std::nullopt, 0), kSpec).detail,
            "cannot start mpirun");
}

TEST(Outcome, ACrashNamesRankAndSignal) {
  EndFacts facts = ended(139);
  facts.last_stderr = {
      "mpirun noticed that process rank 1 with PID 5 on node a exited on signal 11 (Segmentation "
      "fault)."};
  const RunEnd end = decide_end(facts, ranks_that_said(2, {kHello0, kHello1}), kSpec);
  EXPECT_EQ(end.reason, Reason::kWorkerCrashed);
  EXPECT_EQ(end.detail, "rank 1 on alpha (launch) ended on signal 11 (Segmentation fault)");
}

TEST(HostFacts, TheInterfaceOfANetwork) {
  EXPECT_EQ(interface_in("127.0.0.0/8"), "lo");
  EXPECT_EQ(interface_in("127.0.0.1/32"), "lo");
  EXPECT_EQ(interface_in("240.1.2.0/24"), "") << "reserved";
  EXPECT_EQ(interface_in(""), "");
}

TEST(Outcome, TheKernelsMemoryKillerIsOutOfMemory) {
  EndFacts facts = ended(137);
  facts.last_stderr = {
      "mpirun noticed that process rank 0 with PID 5 on node a exited on signal 9 (Killed)."};
  EXPECT_EQ(decide_end(facts, ranks_that_said(1, {kHello0}), kSpec).reason, Reason::kWorkerCrashed);
  facts.memory_killer = true;
  const RunEnd end = decide_end(facts, ranks_that_said(1, {kHello0}), kSpec);
  EXPECT_EQ(end.state, RunState::kOutOfMemory);
  EXPECT_EQ(end.memory["batch_size"], 16);
  EXPECT_TRUE(end.memory["bytes_wanted"].is_null());
}

TEST(Outcome, AKilledGuardIsACrash) {
  EXPECT_EQ(decide_end({}, ranks_that_said(1, {kHello0}), kSpec).reason, Reason::kWorkerCrashed);
}

}  // namespace
}  // namespace rackmark::agent
