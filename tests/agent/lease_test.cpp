#include "agent/lease.hpp"

#include <gtest/gtest.h>

#include "common/clock.hpp"

namespace rackmark::agent {
namespace {

TEST(Lease, NothingToFenceBeforeTheFirstAnswer) {
  Lease lease;
  ManualClock clock;
  clock.advance_s(1e6);
  EXPECT_FALSE(lease.must_fence(clock.monotonic_ns()));
}

TEST(Lease, FencesAtFiveSixthsCountedFromSending) {
  Lease lease;
  ManualClock clock;
  const auto sent = clock.monotonic_ns();
  clock.advance_s(20);  // the answer took that long: it does not count
  lease.answered(sent, 60);
  clock.advance_s(29.9);
  EXPECT_FALSE(lease.must_fence(clock.monotonic_ns()));
  clock.advance_s(0.2);
  EXPECT_TRUE(lease.must_fence(clock.monotonic_ns()));
}

TEST(Lease, AnOlderAnswerThatComesLateDoesNotTurnBackTheClock) {
  Lease lease;
  ManualClock clock;
  const auto older = clock.monotonic_ns();
  clock.advance_s(10);
  lease.answered(clock.monotonic_ns(), 12);
  lease.answered(older, 12);
  clock.advance_s(9.9);
  EXPECT_FALSE(lease.must_fence(clock.monotonic_ns()));
  clock.advance_s(0.2);
  EXPECT_TRUE(lease.must_fence(clock.monotonic_ns()));
}

TEST(Lease, ANewAnswerMakesItFreshAgain) {
  Lease lease;
  ManualClock clock;
  lease.answered(clock.monotonic_ns(), 6);
  clock.advance_s(5.1);
  EXPECT_TRUE(lease.must_fence(clock.monotonic_ns()));
  lease.answered(clock.monotonic_ns(), 6);
  EXPECT_FALSE(lease.must_fence(clock.monotonic_ns()));
}

}  // namespace
}  // namespace rackmark::agent
