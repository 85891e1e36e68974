#include "agent/process/spawn.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <system_error>

namespace rackmark::agent {
namespace {

const std::vector<std::string> kPath{"PATH=/usr/bin:/bin"};

TEST(Spawn, TheChildGetsNothingButWhatIsNamed) {
  const int leaked = ::open("/dev/null", O_RDONLY);  // without close-on-exec, as a library might
  ::setenv("RACKMARK_TEST_SECRET", "1", 1);
  const auto env = capture({"env"}, {"PATH=/usr/bin:/bin", "ONLY=this"}, 5000);
  EXPECT_EQ(env.out, "PATH=/usr/bin:/bin\nONLY=this\n");
  const auto fds = capture({"ls", "/proc/self/fd"}, kPath, 5000);
  EXPECT_EQ(fds.out, "0\n1\n2\n3\n");  // 3 is the folder that ls reads
  ::close(leaked);
}

TEST(Spawn, AnArgumentIsNeverReadByAShell) {
  EXPECT_EQ(capture({"echo", "$(id); `id` && x"}, kPath, 5000).out, "$(id); `id` && x\n");
}

TEST(Spawn, SaysWhatCannotBeStarted) {
  try {
    spawn({.argv = {"no-such-program"}, .environment = kPath});
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENOENT);
    EXPECT_NE(std::string(error.what()).find("no-such-program"), std::string::npos);
  }
  EXPECT_THROW(spawn({.argv = {"true"}, .environment = kPath, .folder = "/no/such/folder"}),
               std::system_error);
  EXPECT_FALSE(capture({"no-such-program"}, kPath, 1000).started);
}

TEST(Spawn, CaptureEndsAProgramThatTakesTooLong) {
  const auto began = std::chrono::steady_clock::now();
  const auto result = capture({"sh", "-c", "echo begun; sleep 60"}, kPath, 300);
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.out, "begun\n");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
}

TEST(Spawn, CaptureDoesNotWaitForAHelperThatHoldsThePipe) {
  const auto began = std::chrono::steady_clock::now();
  const auto result = capture({"sh", "-c", "sleep 20 & echo done"}, kPath, 15000);
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.out, "done\n");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
}

TEST(Spawn, CaptureIsBounded) {
  EXPECT_EQ(capture({"head", "-c", "3000000", "/dev/zero"}, kPath, 10000, 1000).out.size(), 1000U);
}

TEST(Spawn, StatusIsDescribed) {
  EXPECT_EQ(describe(capture({"sh", "-c", "exit 3"}, kPath, 5000).status), "exit status 3");
  EXPECT_EQ(describe(capture({"sh", "-c", "kill -9 $$"}, kPath, 5000).status), "signal 9 (Killed)");
}

TEST(Spawn, IgnoredSignalsAreNotInherited) {
  ::signal(SIGPIPE, SIG_IGN);
  const auto status = capture({"sh", "-c", "kill -PIPE $$; echo alive"}, kPath, 5000);
  ::signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(status.status.signal, SIGPIPE);
  EXPECT_EQ(status.out, "");
}

TEST(StartTicks, TellProcessesApartAndKnowTheDead) {
  EXPECT_TRUE(start_ticks(::getpid()));
  const pid_t child = spawn({.argv = {"true"}, .environment = kPath});
  ::siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_FALSE(start_ticks(child)) << "a zombie is dead";
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(start_ticks(child));
}

}  // namespace
}  // namespace rackmark::agent
