#include "agent/process/containment.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/process/spawn.hpp"

namespace rackmark::agent {
namespace {

TEST(OwnCgroup, IsLookedUpInTheMounts) {
  const std::string hybrid =
      "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
      "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
  EXPECT_EQ(own_cgroup(hybrid, "4:memory:/a\n0::/\n"), "/sys/fs/cgroup/unified");
  EXPECT_EQ(
      own_cgroup("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "0::/system.slice/rackmark.service\n"),
      "/sys/fs/cgroup/system.slice/rackmark.service");
  EXPECT_EQ(own_cgroup("proc /proc proc rw 0 0\n", "0::/\n"), std::nullopt);
  EXPECT_EQ(own_cgroup(hybrid, "4:memory:/a\n"), std::nullopt);
  EXPECT_EQ(own_cgroup(hybrid, "0::/../outside\n"), std::nullopt);
  EXPECT_EQ(own_cgroup("", ""), std::nullopt);
}

TEST(MarkedProcesses, WantBothMarksExactly) {
  const std::string agent = "t" + std::to_string(::getpid());
  auto start = [](std::vector<std::string> environment) {
    environment.push_back("PATH=/usr/bin:/bin");
    return spawn({.argv = {"sleep", "60"}, .environment = std::move(environment)});
  };
  const pid_t ours = start({"RACKMARK_RUN=5", "RACKMARK_AGENT=" + agent});
  const std::vector<pid_t> others{start({"RACKMARK_RUN=5", "RACKMARK_AGENT=other" + agent}),
                                  start({"RACKMARK_RUN=55", "RACKMARK_AGENT=" + agent}),
                                  start({"XRACKMARK_RUN=5", "RACKMARK_AGENT=" + agent})};
  EXPECT_EQ(marked_processes({5, agent}), std::vector<pid_t>{ours});
  const Containment sweep{ContainmentKind::kProcSweep, {}, {5, agent}};
  EXPECT_TRUE(kill_until_empty(sweep, 5000));
  EXPECT_TRUE(sweep.empty());
  for (const pid_t pid : others) {
    EXPECT_TRUE(start_ticks(pid)) << "somebody else's process was ended";
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

TEST(ContainmentKind, NamesGoBothWays) {
  for (const auto kind :
       {ContainmentKind::kCgroupV2, ContainmentKind::kPidNamespace, ContainmentKind::kProcSweep})
    EXPECT_EQ(containment_kind_from(to_string(kind)), kind);
  EXPECT_EQ(containment_kind_from("jail"), std::nullopt);
}

}  // namespace
}  // namespace rackmark::agent
