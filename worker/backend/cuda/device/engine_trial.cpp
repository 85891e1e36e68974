#include "worker/backend/cuda/device/engine_trial.hpp"

#include <algorithm>
#include <stdexcept>

#include "worker/backend/backend.hpp"

namespace rackmark::worker::cuda {
namespace {

double timed_ms(CudaQueue& queue, const std::function<void()>& work) {
  const auto begin = queue.make_mark(), end = queue.make_mark();
  begin->set();
  work();
  end->set();
  end->wait();
  return end->ms_since(*begin);
}

// A GPU takes its time to raise its clock.
void warm_up(CudaQueue& queue, const std::function<void()>& work) {
  constexpr double kWarmUpMs = 30, kLeastMs = 0.01;
  for (double ms = 0; ms < kWarmUpMs;) ms += std::max(timed_ms(queue, work), kLeastMs);
}

// It is run twice as it is, which loads what is used for the first time and tells how long it takes
// with what the host adds: nothing where it is long, some 30 us for a form with kernels of ours
// beside the engine. About a millisecond of it is then recorded and replayed. Work that is slow
// already then is not run again: that it is slow is all that matters.
double recorded_ms(CudaQueue& queue, const std::optional<double>& best_ms,
                   const std::function<void()>& work) {
  constexpr double kLongMs = 20, kGivingMs = 0.1, kReplayMs = 1;
  constexpr int kReplays = 5, kMostRuns = 50;
  timed_ms(queue, work);
  const double plain_ms = timed_ms(queue, work);
  const bool slow = best_ms && plain_ms > 3 * *best_ms + kGivingMs;
  if (slow || plain_ms > kLongMs) return plain_ms;
  const double fitting = kReplayMs / std::max(plain_ms, kReplayMs / kMostRuns);
  const int runs = std::max(1, static_cast<int>(fitting));
  const auto recording = queue.record([&] {
    for (int i = 0; i < runs; ++i) work();
  });
  recording->replay();
  double best = plain_ms;
  for (int i = 0; i < kReplays; ++i) {
    best = std::min(best, timed_ms(queue, [&] { recording->replay(); }) / runs);
  }
  return best;
}

}  // namespace

TrialTimes compared_times(
    std::size_t count,
    const std::function<double(std::size_t, const std::optional<double>& best_ms)>& time_one,
    const std::function<void(std::size_t, const std::string& why)>& failed) {
  constexpr double kClose = 1.25;  // a second look decides between those
  TrialTimes times(count);
  std::optional<double> best_ms;
  for (const bool again : {false, true}) {
    for (std::size_t i = 0; i < count; ++i) {
      if (again && !(times[i] && *times[i] <= kClose * *best_ms)) continue;
      try {
        const double ms = time_one(i, best_ms);
        times[i] = std::min(ms, times[i].value_or(ms));
        best_ms = std::min(ms, best_ms.value_or(ms));
      } catch (const OutOfMemory&) {  // the next one may want less
      } catch (const std::runtime_error& error) {
        times[i].reset();
        failed(i, error.what());
      }
    }
  }
  return times;
}

TrialTimes trial_times(CudaQueue& queue, const std::string& task,
                       const std::vector<std::string>& names,
                       const std::function<std::function<void()>(std::size_t)>& work_of) {
  bool warm = false;
  const auto time_one = [&](std::size_t i, const std::optional<double>& best_ms) {
    const auto work = work_of(i);
    if (!warm) warm_up(queue, work);
    warm = true;
    return recorded_ms(queue, best_ms, work);
  };
  // An engine that was built and yet does not run is only left out. One that left the device unable
  // to go on would be met again as an error of whatever comes next.
  const auto failed = [&](std::size_t i, const std::string& why) {
    try {
      queue.wait();
    } catch (const std::runtime_error& after) {
      throw std::runtime_error(task + ": trying " + names[i] + ": " + why +
                               "; the device does not go on: " + after.what());
    }
  };
  return compared_times(names.size(), time_one, failed);
}

}  // namespace rackmark::worker::cuda
