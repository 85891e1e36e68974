// The runner with real processes: the real guard, the real mpirun, and a worker that speaks the
// event protocol and ends in every way that a worker can end.
#include "agent/runs/runner.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "agent/process/containment.hpp"
#include "agent/process/files.hpp"
#include "agent/process/spawn.hpp"
#include "agent/runs/host_facts.hpp"
#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

using namespace std::chrono_literals;
using protocol::ObservedRun;
using protocol::SyncDown;
using protocol::WantedRun;
using testing::HasSubstr;

class RunnerTest : public testing::Test {
 protected:
  RunnerTest() : spool_(folder_.path() / "spool") {
    host_.state = folder_.path();
    host_.self = std::string(RACKMARK_BIN_DIR) + "/rackmark-agent";
    host_.worker = std::string(RACKMARK_BIN_DIR) + "/rackmark-test-worker";
    host_.mark = mark_of(folder_.path().string());
    host_.containment = detect_containment();
    host_.physical_cores = 64;         // what this machine has must not decide a test
    host_.affinity_restricted = true;  // hence no binding
    host_.grace_ms = 500;
    lease_.answered(clock_.monotonic_ns(), 600);
    start();
  }
  void start() {
    runner_ = std::make_unique<Runner>(host_, clock_, spool_, lease_, [](Runner::News) {});
    runner_->start();
  }
  template <class F>
  void start_with(F&& change) {
    runner_.reset();
    change(host_);
    start();
  }
  static WantedRun wanted(std::int64_t id, const std::string& behaviour, int ranks = 2) {
    WantedRun run;
    run.run_id = id;
    run.job_id = 1;
    run.timeout_s = 60;
    run.run_token = "secret";
    run.spec = {{"model", "resnet50"},
                {"name", behaviour},
                {"precision", "fp32"},
                {"batch_size", 16},
                {"resources", {{"workers_per_agent", ranks}, {"threads_per_worker", 1}}}};
    return run;
  }
  void want(WantedRun run) {
    SyncDown down;
    down.wanted.push_back(std::move(run));
    runner_->apply(down);
  }
  std::optional<ObservedRun> observed(std::int64_t id) const {
    for (const auto& run : runner_->observed())
      if (run.run_id == id) return run;
    return std::nullopt;
  }
  template <class F>
  bool within(std::chrono::milliseconds limit, F&& holds) const {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }
  bool reaches(std::int64_t id, RunState state) const {
    return within(20s, [&] { return observed(id) && observed(id)->state >= state; });
  }
  // Until it is over: checks that nothing is left, and gives how it ended.
  ObservedRun end_of(std::int64_t id) const {
    EXPECT_TRUE(within(30s, [&] { return observed(id) && observed(id)->all_gone; }));
    EXPECT_TRUE(marked_processes({id, host_.mark}).empty());
    EXPECT_FALSE(runner_->busy());
    EXPECT_FALSE(cgroup_left());
    EXPECT_FALSE(
        std::filesystem::exists("/dev/shm/rackmark-" + host_.mark + "-" + std::to_string(id)));
    return observed(id).value_or(ObservedRun{});
  }
  // A cgroup of this agent that outlived its run.
  bool cgroup_left() const {
    const auto base = own_cgroup(read_file("/proc/self/mounts").value_or(""),
                                 read_file("/proc/self/cgroup").value_or(""));
    if (!base) return false;
    for (const auto& entry : std::filesystem::directory_iterator(*base))
      if (entry.path().filename().string().starts_with("rackmark-" + host_.mark)) return true;
    return false;
  }
  ObservedRun run_to_end(WantedRun run) {
    const auto id = run.run_id;
    want(std::move(run));
    return end_of(id);
  }
  std::string all_logs(std::int64_t id) const {
    std::string text;
    for (const auto& batch : spool_.pending(std::size_t{1} << 30)) {
      if (batch.run_id != id) continue;
      for (const auto& line : batch.logs)
        text += std::to_string(line.rank) + " " + line.stream + " " + line.text + "\n";
    }
    return text;
  }
  int count_events(std::int64_t id, const std::string& type) const {
    int count = 0;
    for (const auto& batch : spool_.pending(std::size_t{1} << 30))
      for (const auto& event : batch.events) count += batch.run_id == id && event["type"] == type;
    return count;
  }

  TempFolder folder_;
  SystemClock clock_;
  Spool spool_;
  Lease lease_;
  RunHost host_;
  std::unique_ptr<Runner> runner_;
};

TEST_F(RunnerTest, SuccessSpoolsEveryEventAndLogLine) {
  const ObservedRun end = run_to_end(wanted(1, "success"));
  EXPECT_EQ(end.state, RunState::kSucceeded) << end.detail;
  EXPECT_EQ(end.reason, Reason::kNone);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.last_seq, spool_.last_seq(1));
  EXPECT_EQ(count_events(1, "hello"), 2);
  EXPECT_EQ(count_events(1, "summary"), 2);
  EXPECT_EQ(count_events(1, "steps"), 4);
  EXPECT_THAT(all_logs(1), HasSubstr("1 stdout rank 1 speaks\n"));
}

TEST_F(RunnerTest, EveryWayToFailHasItsReason) {
  const struct {
    const char* behaviour;
    RunState state;
    Reason reason;
    const char* detail;
  } rows[] = {
      {"crash", RunState::kFailed, Reason::kWorkerCrashed,
       "rank 1 on here (measuring) ended on signal 11"},
      {"exit3", RunState::kFailed, Reason::kWorkerCrashed, "rank 0 on here (measuring)"},
      {"out_of_memory", RunState::kOutOfMemory, Reason::kOutOfMemory, "9000 bytes wanted"},
      {"nan", RunState::kFailed, Reason::kNanLoss, "loss is NaN at step 2"},
      {"no_summary", RunState::kFailed, Reason::kMissingRank, "rank 1 on here (measuring)"},
      {"no_hello", RunState::kFailed, Reason::kLaunchFailed, "cannot load the engine"},
      {"overlong", RunState::kFailed, Reason::kMissingRank, "rank 0"},
  };
  std::int64_t id = 10;
  for (const auto& row : rows) {
    const ObservedRun end = run_to_end(wanted(++id, row.behaviour));
    EXPECT_EQ(end.state, row.state) << row.behaviour << ": " << end.detail;
    EXPECT_EQ(end.reason, row.reason) << row.behaviour << ": " << end.detail;
    EXPECT_THAT(end.detail, HasSubstr(row.detail)) << row.behaviour;
  }
}

TEST_F(RunnerTest, OutOfMemoryCarriesModelBatchAndBytes) {
  const ObservedRun end = run_to_end(wanted(2, "out_of_memory", 1));
  EXPECT_EQ(end.memory["model"], "resnet50");
  EXPECT_EQ(end.memory["batch_size"], 512);
  EXPECT_EQ(end.memory["bytes_wanted"], 9000);
  EXPECT_EQ(end.memory["bytes_free"], 100);
}

TEST_F(RunnerTest, AHostWithoutMpirunRunsOneRank) {
  host_.openmpi_version = "unknown";
  runner_->renew(host_);  // an agent looks at its host again and again
  EXPECT_EQ(run_to_end(wanted(4, "success", 1)).state, RunState::kSucceeded);
  EXPECT_THAT(all_logs(4), HasSubstr("0 stdout rank 0 speaks\n"));
  EXPECT_THAT(run_to_end(wanted(5, "exit3", 1)).detail,
              HasSubstr("the worker ended with exit status 3; rank 0 on here (measuring)"));
}

TEST_F(RunnerTest, GarbageIsNotedAndNotFatal) {
  const ObservedRun end = run_to_end(wanted(3, "garbage"));
  EXPECT_EQ(end.state, RunState::kSucceeded) << end.detail;
  EXPECT_THAT(all_logs(3), HasSubstr("not a worker event: this is not JSON"));
  EXPECT_THAT(all_logs(3), HasSubstr("broken \xEF\xBF\xBD\xEF\xBF\xBD bytes"));
}

TEST_F(RunnerTest, AHelperInItsOwnSessionDoesNotOutliveTheRun) {
  EXPECT_EQ(run_to_end(wanted(4, "helper")).state, RunState::kSucceeded);
}

TEST_F(RunnerTest, SilenceIsAStallThatNamesRankHostAndPhase) {
  // There a rank counts processes from 1: the one that is looked at must be the host's.
  if (::geteuid() == 0)
    start_with([](RunHost& host) { host.containment = ContainmentKind::kPidNamespace; });
  WantedRun run = wanted(5, "hang");
  run.spec["stall_s"] = 1;
  const ObservedRun end = run_to_end(std::move(run));
  EXPECT_EQ(end.state, RunState::kStalled);
  EXPECT_EQ(end.reason, Reason::kNoProgress);
  EXPECT_THAT(end.detail, testing::ContainsRegex("rank [01] on here in phase measuring"));
  EXPECT_THAT(all_logs(5), testing::ContainsRegex("thread [0-9]+ rackmark-test-w"));
}

TEST_F(RunnerTest, TimeOutEndsEvenWhoIgnoresSigterm) {
  WantedRun run = wanted(6, "ignore_term");
  run.timeout_s = 1;
  const ObservedRun end = run_to_end(std::move(run));
  EXPECT_EQ(end.state, RunState::kTimeout);
  EXPECT_THAT(end.detail, HasSubstr("1 s"));
}

TEST_F(RunnerTest, CancelAndNotListedEndTheRun) {
  want(wanted(7, "hang"));
  ASSERT_TRUE(reaches(7, RunState::kMeasuring));
  SyncDown down;
  down.wanted.push_back(wanted(7, "hang"));
  down.cancel = {7};
  runner_->apply(down);
  EXPECT_EQ(end_of(7).state, RunState::kCancelled);
  want(wanted(8, "hang"));
  ASSERT_TRUE(reaches(8, RunState::kMeasuring));
  runner_->apply({});
  EXPECT_EQ(end_of(8).state, RunState::kCancelled);
}

TEST_F(RunnerTest, AnOldLeaseEndsTheRunAsLost) {
  want(wanted(9, "hang"));
  ASSERT_TRUE(reaches(9, RunState::kMeasuring));
  lease_.answered(clock_.monotonic_ns(), 0.6);
  const ObservedRun end = end_of(9);
  EXPECT_EQ(end.state, RunState::kLost);
  EXPECT_EQ(end.reason, Reason::kAgentLost);
  // On an old lease nothing starts either; with a fresh one it does.
  want(wanted(10, "success"));
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(observed(10)->state, RunState::kReserved);
  lease_.answered(clock_.monotonic_ns(), 600);
  EXPECT_EQ(end_of(10).state, RunState::kSucceeded);
}

TEST_F(RunnerTest, TheNextRunWaitsForTheLastOneToBeGone) {
  SyncDown down;
  down.wanted = {wanted(11, "slow", 1), wanted(12, "success", 1)};
  runner_->apply(down);
  ASSERT_TRUE(reaches(11, RunState::kStarting));
  EXPECT_EQ(observed(12)->state, RunState::kReserved);
  EXPECT_TRUE(within(30s, [&] { return observed(12)->all_gone; }));
  EXPECT_EQ(observed(11)->state, RunState::kSucceeded);
  EXPECT_EQ(observed(12)->state, RunState::kSucceeded);
}

TEST_F(RunnerTest, InputOutsideTheDataRootsIsUnavailable) {
  WantedRun run = wanted(13, "success");
  run.spec["input"] = {{"kind", "images"}, {"path", "/etc"}};
  const ObservedRun end = run_to_end(std::move(run));
  EXPECT_EQ(end.state, RunState::kFailed);
  EXPECT_EQ(end.reason, Reason::kInputUnavailable);
  EXPECT_THAT(end.detail, HasSubstr("/etc"));
}

TEST_F(RunnerTest, ASpecWithoutWorkersIsUnsupported) {
  WantedRun run = wanted(14, "success");
  run.spec.erase("resources");
  EXPECT_EQ(run_to_end(std::move(run)).reason, Reason::kSpecUnsupported);
}

TEST_F(RunnerTest, ForgottenRunsLeaveNoTraceAndAreNotStartedAgain) {
  EXPECT_EQ(run_to_end(wanted(15, "success", 1)).state, RunState::kSucceeded);
  SyncDown down;
  down.forget = {15};
  down.wanted = {wanted(15, "success", 1)};  // an answer that was made before
  runner_->apply(down);
  EXPECT_TRUE(within(5s, [&] { return !observed(15); }));
  std::this_thread::sleep_for(200ms);
  EXPECT_FALSE(observed(15));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "runs" / "15"));
  EXPECT_FALSE(spool_.has_pending());
}

TEST_F(RunnerTest, AfterARestartARunThatWasOnIsReportedAndItsProcessesAreGone) {
  want(wanted(16, "hang"));
  ASSERT_TRUE(reaches(16, RunState::kMeasuring));
  runner_.reset();  // drops the guard's pipe, as the agent's death does
  start();
  const ObservedRun end = end_of(16);
  EXPECT_EQ(end.state, RunState::kFailed);
  EXPECT_EQ(end.reason, Reason::kAgentRestarted);
}

TEST_F(RunnerTest, AfterARestartAnEndIsRememberedAsItWas) {
  EXPECT_EQ(run_to_end(wanted(17, "nan", 1)).reason, Reason::kNanLoss);
  runner_.reset();
  start();
  const ObservedRun end = end_of(17);
  EXPECT_EQ(end.reason, Reason::kNanLoss);
  EXPECT_EQ(end.last_seq, spool_.last_seq(17));
}

TEST_F(RunnerTest, AKilledGuardFailsTheRunAndTheAgentEndsItsWorkers) {
  want(wanted(18, "ignore_term"));
  ASSERT_TRUE(reaches(18, RunState::kMeasuring));
  const auto record = RunFolder(folder_.path() / "runs", 18).read_record();
  ASSERT_TRUE(record);
  ::kill(static_cast<pid_t>(record->guard_pid), SIGKILL);
  const ObservedRun end = end_of(18);
  EXPECT_EQ(end.state, RunState::kFailed);
  EXPECT_EQ(end.reason, Reason::kWorkerCrashed);
  EXPECT_THAT(end.detail, HasSubstr("guard"));
}

// Stopped by its tracer on the way out, it is as deaf to SIGKILL as in the hands of a dead disk.
TEST_F(RunnerTest, AProcessThatCannotBeKilledHoldsTheHostButNotTheVerdict) {
  start_with([](RunHost& host) {
    host.openmpi_version = "unknown";  // the worker is the guard's own child
    host.clear_ms = 300;
  });
  want(wanted(21, "hang", 1));
  ASSERT_TRUE(reaches(21, RunState::kMeasuring));
  pid_t worker = 0;
  for (const pid_t pid : marked_processes({21, host_.mark})) {
    const std::string name = read_file("/proc/" + std::to_string(pid) + "/comm").value_or("");
    if (name.starts_with("rackmark-test-w")) worker = pid;
  }
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, worker, nullptr, PTRACE_O_TRACEEXIT), 0);
  const auto record = RunFolder(folder_.path() / "runs", 21).read_record();
  ::kill(static_cast<pid_t>(record->guard_pid), SIGKILL);
  EXPECT_TRUE(within(20s, [&] { return observed(21)->state == RunState::kFailed; }));
  EXPECT_FALSE(observed(21)->all_gone);
  EXPECT_TRUE(runner_->busy());
  EXPECT_THAT(observed(21)->detail,
              testing::AllOf(HasSubstr("the guard of the run was killed"),
                             HasSubstr("of its processes cannot be killed"),
                             HasSubstr(fmt::format("process {} t (tracing stop)", worker))));
  EXPECT_THAT(all_logs(21), HasSubstr(fmt::format("process {} cannot be killed", worker)));
  EXPECT_TRUE(within(5s, [&] { return ::ptrace(PTRACE_DETACH, worker, nullptr, nullptr) == 0; }));
  EXPECT_EQ(end_of(21).reason, Reason::kWorkerCrashed);
}

TEST_F(RunnerTest, ABatchThatTheDiskDoesNotTakeIsKept) {
  start_with([](RunHost& host) {
    host.openmpi_version = "unknown";
    host.grace_ms = 1500;
  });
  const auto in_the_way = folder_.path() / "spool" / "22";  // a file where its folder must be
  std::ofstream(in_the_way) << "x";
  want(wanted(22, "ignore_term", 1));
  ASSERT_TRUE(reaches(22, RunState::kMeasuring));
  std::this_thread::sleep_for(600ms);  // more than a flush is put off
  std::filesystem::remove(in_the_way);
  const ObservedRun end = end_of(22);
  EXPECT_EQ(end.reason, Reason::kDiskFull) << end.detail;
  EXPECT_THAT(end.detail, HasSubstr("the spool cannot be written"));
  EXPECT_EQ(count_events(22, "hello"), 1);
  EXPECT_EQ(count_events(22, "steps"), 2);
}

TEST_F(RunnerTest, ShutDownEndsWhatRunsAndStartsNothingMore) {
  want(wanted(19, "hang"));
  ASSERT_TRUE(reaches(19, RunState::kMeasuring));
  runner_->end_all("the agent was stopped");
  const ObservedRun end = end_of(19);
  EXPECT_EQ(end.reason, Reason::kAgentRestarted);
  EXPECT_EQ(end.detail, "the agent was stopped");
  want(wanted(20, "success"));
  std::this_thread::sleep_for(200ms);
  EXPECT_FALSE(observed(20));
}

}  // namespace
}  // namespace rackmark::agent
