#include "worker/collective/turns.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "common/measure/statistics.hpp"

namespace rackmark::worker {

Turns time_turns(Communicator& ranks, const TurnLimits& limits, const std::function<void()>& turn) {
  std::vector<double> seconds;
  double sum_s = 0;
  for (int i = -limits.warm_ups; i < limits.most && (i < limits.fewest || sum_s < limits.seconds);
       ++i) {
    ranks.barrier();
    const auto start = std::chrono::steady_clock::now();
    turn();
    const double own =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double slowest = ranks.all_reduce_max(own);
    if (i < 0) continue;
    seconds.push_back(slowest);
    sum_s += slowest;
  }
  return {static_cast<std::int64_t>(seconds.size()), *measure::median(seconds),
          *std::min_element(seconds.begin(), seconds.end())};
}

}  // namespace rackmark::worker
