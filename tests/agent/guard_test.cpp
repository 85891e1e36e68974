// Real processes: a stand-in for the agent starts a guard, the guard starts a tree of helpers that
// leave their session, and then somebody is killed.
#include "agent/process/guard.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "agent/process/files.hpp"
#include "agent/process/spawn.hpp"
#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

namespace fs = std::filesystem;
using Steady = std::chrono::steady_clock;

std::vector<ContainmentKind> kinds_of_this_host() {
  std::vector<ContainmentKind> kinds{ContainmentKind::kProcSweep};
  const auto best = detect_containment();
  if (best == ContainmentKind::kCgroupV2) kinds.push_back(best);
  if (::geteuid() == 0) kinds.push_back(ContainmentKind::kPidNamespace);
  return kinds;
}

class GuardTest : public testing::TestWithParam<ContainmentKind> {
 protected:
  GuardTest() {
    mark_ = {::getpid(), "g" + std::to_string(::getpid())};
    containment_ = Containment::create(GetParam(), mark_);
    scratch_ = folder_.path() / "rackmark-scratch";
    fs::create_directory(scratch_);
    std::ofstream(scratch_ / "vader_segment") << "left over";
  }
  ~GuardTest() override {
    kill_until_empty(containment_, 5000);
    containment_.remove();
  }

  // `script` runs under the guard in place of mpirun.
  void order(const std::string& script) {
    GuardOrder order;
    order.run_id = mark_.run_id;
    order.agent_mark = mark_.agent;
    order.containment = to_string(containment_.kind);
    order.cgroup = containment_.cgroup.string();
    order.scratch = scratch_.string();
    order.argv = {"sh", "-c", script};
    order.environment = {"PATH=/usr/bin:/bin", mark_.run_entry(), mark_.agent_entry()};
    order.grace_ms = 500;
    write_guard_order(folder_.path(), order);
  }
  GuardedProcess start() {
    return start_guard(std::string(RACKMARK_BIN_DIR) + "/rackmark-agent", folder_.path());
  }
  template <class F>
  static bool within(std::chrono::milliseconds limit, F&& holds) {
    const auto end = Steady::now() + limit;
    while (!holds()) {
      if (Steady::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  bool wait_for_tree(std::size_t processes) {
    return within(std::chrono::seconds(10),
                  [&] { return containment_.members().size() >= processes; });
  }
  std::optional<GuardOutcome> outcome() { return read_guard_outcome(folder_.path()); }

  TempFolder folder_;
  RunMark mark_;
  Containment containment_;
  fs::path scratch_;
};

// sh, a plain child, one in its own session, and one that was orphaned in a third session.
constexpr const char* kTree =
    "sleep 301 & setsid sleep 302 & setsid sh -c 'setsid sleep 303 & exit 0' & "
    "trap '' TERM; while :; do sleep 1; done";

TEST_P(GuardTest, TheWholeTreeIsGoneSoonAfterTheAgentWasKilled) {
  order(kTree);
  Pipe ready = make_pipe();
  const pid_t stand_in = ::fork();
  if (stand_in == 0) {
    const GuardedProcess guard = start();
    write_all(ready.write.get(), std::to_string(guard.pid) + "\n");
    while (true) ::pause();
  }
  std::string text(32, '\0');
  ASSERT_GT(::read(ready.read.get(), text.data(), text.size()), 0);
  const auto guard_pid = static_cast<pid_t>(std::stol(text));
  ASSERT_TRUE(wait_for_tree(4));
  const auto killed = Steady::now();
  ::kill(stand_in, SIGKILL);
  ::waitpid(stand_in, nullptr, 0);
  EXPECT_TRUE(within(std::chrono::seconds(5), [&] { return containment_.empty(); }));
  EXPECT_LT(Steady::now() - killed, std::chrono::seconds(5));
  ASSERT_TRUE(within(std::chrono::seconds(5), [&] { return outcome().has_value(); }));
  EXPECT_EQ(outcome()->cause, GuardCause::kAgentDied);
  EXPECT_TRUE(outcome()->empty);
  EXPECT_FALSE(fs::exists(scratch_));
  EXPECT_TRUE(within(std::chrono::seconds(5), [&] { return !start_ticks(guard_pid); }));
  EXPECT_TRUE(containment_.cgroup.empty() || !fs::exists(containment_.cgroup));
}

TEST_P(GuardTest, AProgramThatEndsLeavesNoHelperBehind) {
  order("setsid sleep 300 & sleep 0.3; exit 6");
  const GuardedProcess guard = start();
  int status = 0;
  ASSERT_EQ(::waitpid(guard.pid, &status, 0), guard.pid);
  EXPECT_EQ(status, 0);
  const auto end = outcome();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->cause, GuardCause::kExited);
  EXPECT_EQ(end->exit_code, 6);
  EXPECT_TRUE(end->empty);
  EXPECT_TRUE(containment_.empty());
}

TEST_P(GuardTest, StopIsPoliteFirst) {
  order("trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done");
  const GuardedProcess guard = start();
  pollfd out{guard.out.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&out, 1, 10000), 1);
  guard.ask_to_stop();
  ASSERT_EQ(::waitpid(guard.pid, nullptr, 0), guard.pid);
  EXPECT_EQ(outcome()->cause, GuardCause::kStopped);
  EXPECT_EQ(outcome()->exit_code, 4);
}

TEST_P(GuardTest, KillDoesNotWaitForTheGrace) {
  order(kTree);
  const GuardedProcess guard = start();
  ASSERT_TRUE(wait_for_tree(4));
  guard.ask_to_kill();
  ASSERT_EQ(::waitpid(guard.pid, nullptr, 0), guard.pid);
  EXPECT_EQ(outcome()->cause, GuardCause::kStopped);
  EXPECT_TRUE(containment_.empty());
}

TEST_P(GuardTest, WhenTheGuardIsKilledTheAgentEndsTheRun) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  order(kTree);
  const GuardedProcess guard = start();
  ASSERT_TRUE(wait_for_tree(4));
  ::kill(guard.pid, SIGKILL);
  pollfd ended{guard.ended.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&ended, 1, 5000), 1) << "the agent notices";
  ::waitpid(guard.pid, nullptr, 0);
  EXPECT_FALSE(outcome());
  EXPECT_TRUE(kill_until_empty(containment_of(*read_guard_order(folder_.path())), 5000));
  EXPECT_TRUE(containment_.empty());
}

TEST_P(GuardTest, AProgramThatCannotStartIsSaidSo) {
  order("x");
  auto order = *read_guard_order(folder_.path());
  order.argv = {"no-such-mpirun"};
  write_guard_order(folder_.path(), order);
  const GuardedProcess guard = start();
  ASSERT_EQ(::waitpid(guard.pid, nullptr, 0), guard.pid);
  EXPECT_EQ(outcome()->cause, GuardCause::kNotStarted);
  EXPECT_NE(outcome()->error.find("no-such-mpirun"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Kinds, GuardTest, testing::ValuesIn(kinds_of_this_host()),
                         [](const auto& kind) { return to_string(kind.param); });

TEST(RemoveScratch, RefusesOtherNames) {
  TempFolder folder;
  const fs::path precious = folder.path() / "precious";
  fs::create_directory(precious);
  remove_scratch(precious);
  remove_scratch("rackmark-relative");
  EXPECT_TRUE(fs::exists(precious));
}

TEST(GuardMain, ABrokenOrderIsALineAndStatusOne) {
  TempFolder folder;
  const auto result =
      capture({std::string(RACKMARK_BIN_DIR) + "/rackmark-agent", "guard", folder.path().string()},
              {"PATH=/usr/bin:/bin"}, 10000);
  EXPECT_EQ(result.status.code, 1);
}

}  // namespace
}  // namespace rackmark::agent
