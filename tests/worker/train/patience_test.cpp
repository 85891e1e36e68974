#include "worker/collective/patience.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace rackmark::worker {
namespace {

// Yields of 1 us, so far apart, from `now` to `end`; whether its patience was over before that.
bool is_over_by(Patience& patience, std::int64_t apart, std::int64_t& now, std::int64_t end) {
  while (now < end) {
    if (patience.is_over(now)) return true;
    patience.yielded(now + 1'000);
    now += 1'000 + apart;
  }
  return false;
}

TEST(Patience, EndsWhenNothingHasComeForLong) {
  Patience patience;
  const std::int64_t start = 1'000'000'000;
  std::int64_t now = start;
  EXPECT_TRUE(is_over_by(patience, 500, now, start + 2 * Patience::kPatienceNs));
  EXPECT_GE(now, start + Patience::kPatienceNs);
  EXPECT_LT(now, start + Patience::kPatienceNs + 10'000);
  patience.begin_anew(now);
  EXPECT_FALSE(is_over_by(patience, 500, now, now + Patience::kPatienceNs - 10'000));
}

TEST(Patience, IsThatOfAWaitAlone) {
  Patience patience;
  std::int64_t now = 1'000'000'000;
  for (int step = 0; step < 10; ++step) {
    EXPECT_FALSE(is_over_by(patience, 500, now, now + Patience::kPatienceNs / 2));
    now += 2 * Patience::kBusyNs;
  }
  EXPECT_FALSE(is_over_by(patience, Patience::kBusyNs + 1, now, now + 100'000'000));
}

TEST(Patience, KnowsWhoElseWantsToRun) {
  EXPECT_EQ(runnable_threads("1.23 0.50 0.10 7/345 6789\n"), 7);
  for (const char* other : {"", "1.23 0.50", "1.23 0.50 0.10 x/345"}) {
    EXPECT_EQ(runnable_threads(other), 0) << other;
  }
}

// Of a thread that yields for half a second beside as many others that compute. This program has
// the worker's sched_yield().
long sleeps_beside(long others) {
  std::atomic<bool> over{false};
  std::vector<std::thread> computing;
  for (long i = 0; i < others; ++i) {
    computing.emplace_back([&] {
      while (!over) {
      }
    });
  }
  long sleeps = 0;
  std::thread waiting([&] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    while (std::chrono::steady_clock::now() < end) ::sched_yield();
    rusage use{};
    ::getrusage(RUSAGE_THREAD, &use);
    sleeps = use.ru_nvcsw;
  });
  waiting.join();
  over = true;
  for (auto& thread : computing) thread.join();
  return sleeps;
}

TEST(SchedYield, SleepsWhereThreadsWantForCores) {
  const long sleeps = sleeps_beside(::sysconf(_SC_NPROCESSORS_ONLN) + 1);
  EXPECT_GE(sleeps, 10);
  EXPECT_LE(sleeps, 150) << "it is to look for messages most of the time";
}

}  // namespace
}  // namespace rackmark::worker
