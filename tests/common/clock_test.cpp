#include "common/clock.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace rackmark {
namespace {

TEST(Clock, WritesMillisecondsAndZ) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(rfc3339(1'750'000'000'123'456), "2025-06-15T15:06:40.123Z");
  EXPECT_EQ(rfc3339(-1), "1969-12-31T23:59:59.999Z");
}

TEST(Clock, ReadsWhatItWrites) {
  for (const std::int64_t us :
       {0L, 1'750'000'000'123'000L, 4'102'444'800'999'000L, -86'400'000'000L}) {
    EXPECT_EQ(parse_rfc3339(rfc3339(us)), us) << us;
  }
}

// A time namespace whose boot lies an hour further back, as after an hour of sleep.
TEST(Clock, OnlyTheBootClockCountsSleep) {
  const pid_t child = ::fork();
  if (child == 0) {
    const std::int64_t awake_ns = SystemClock().monotonic_ns(), all_ns = BootClock().monotonic_ns();
    if (::unshare(CLONE_NEWTIME) != 0) ::_exit(2);  // not allowed here
    std::ofstream("/proc/self/timens_offsets") << "boottime 3600 0\n" << std::flush;
    const pid_t inside = ::fork();
    if (inside == 0) {
      const bool awake = SystemClock().monotonic_ns() - awake_ns < 1'800'000'000'000;
      const bool slept = BootClock().monotonic_ns() - all_ns > 3'600'000'000'000;
      ::_exit(awake && slept ? 0 : 1);
    }
    int status = 0;
    ::waitpid(inside, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2))
      << status;
}

TEST(Clock, ReadsOffsetsAndFractions) {
  EXPECT_EQ(parse_rfc3339("1970-01-01T01:00:00+01:00"), 0);
  EXPECT_EQ(parse_rfc3339("1969-12-31T22:30:00-01:30"), 0);
  EXPECT_EQ(parse_rfc3339("1970-01-01 00:00:01.5z"), 1'500'000);
}

TEST(Clock, RefusesWhatIsNoTime) {
  for (const char* text :
       {"", "yesterday", "2026-11-21", "2026-11-21T02:03:04", "2026-13-01T00:00:00Z",
        "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00Zx",
        "2026-01-01T00:00:00+1", "2026-01-01X00:00:00Z"}) {
    EXPECT_FALSE(parse_rfc3339(text)) << text;
  }
}

TEST(Clock, AManualClockMovesOnlyWhenTold) {
  ManualClock clock(5'000'000);
  const auto before = clock.monotonic_ns();
  EXPECT_EQ(clock.wall_us(), 5'000'000);
  clock.advance_s(1.5);
  EXPECT_EQ(clock.wall_us(), 6'500'000);
  EXPECT_EQ(clock.monotonic_ns() - before, 1'500'000'000);
}

TEST(Clock, TheSystemClockMoves) {
  const SystemClock clock;
  const auto first = clock.monotonic_ns();
  EXPECT_GT(clock.wall_us(), 1'600'000'000'000'000);
  EXPECT_GE(clock.monotonic_ns(), first);
}

}  // namespace
}  // namespace rackmark
