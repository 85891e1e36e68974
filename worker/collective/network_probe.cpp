#include "worker/collective/network_probe.hpp"

#include "worker/collective/turns.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kProbeBytes[] = {4096, 65536, 524288, 4194304};
constexpr double kProbeSeconds = 0.6;
constexpr TurnLimits kProbeTurns = {.warm_ups = 1, .fewest = 3, .most = 15, .seconds = 0.1};

// Bytes decide the time of what is still to come: a larger size takes at most so many times longer.
bool fits_into(double left_s, const protocol::AllReduceTime& last, std::int64_t bytes) {
  const double longer = static_cast<double>(bytes) / static_cast<double>(last.bytes);
  return last.median_s * longer * (kProbeTurns.warm_ups + kProbeTurns.fewest) <= left_s;
}

}  // namespace

std::vector<protocol::AllReduceTime> time_all_reduces(Communicator& ranks) {
  std::vector<protocol::AllReduceTime> times;
  if (ranks.size() < 2) return times;
  double left_s = kProbeSeconds;
  for (const std::int64_t bytes : kProbeBytes) {
    if (times.size() >= 2 && !fits_into(left_s, times.back(), bytes)) break;
    std::vector<float> values(static_cast<std::size_t>(bytes) / sizeof(float), 0);
    const Turns turns = time_turns(ranks, kProbeTurns, [&] { ranks.all_reduce_sum(values); });
    times.push_back({ranks.size(), bytes, turns.count, turns.median_s});
    left_s -= turns.median_s * static_cast<double>(turns.count + kProbeTurns.warm_ups);
  }
  return times;
}

}  // namespace rackmark::worker
