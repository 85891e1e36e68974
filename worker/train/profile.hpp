// The passes of `profile: true`: times of every operation of a step, after the measured window.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/protocol/worker_event.hpp"
#include "worker/backend/backend.hpp"

namespace rackmark::worker {

inline constexpr std::size_t kProfileRowsKept = 1500;

struct ProfiledWork {
  std::function<void()> step;                       // as in the measured window
  std::function<std::vector<OpTime>()> timed_pass;  // the same with every operation timed
};
// A training step on `batch`; both must outlive the work. Parameters keep their values; momentum
// and gradients do not: nothing may be trained after it.
ProfiledWork training_work(TrainPlan& plan, const Batch& batch);

// In turns: a plain step, a timed pass, a round of `bound` (may be null).
protocol::ProfileEvent profile_steps(const ProfiledWork& work, BoundMeter* bound);

// Median per operation over equal passes; of more rows than are kept the cheapest are left out.
protocol::ProfileEvent profile_table(const std::vector<std::vector<OpTime>>& passes,
                                     std::vector<double> step_ms);

// For people: dearest first, a heading that says what it is, and the sums.
std::string profile_text(const protocol::ProfileEvent& profile);

}  // namespace rackmark::worker
