#include "worker/train/learning_rate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace rackmark::worker {
namespace {

double share_done(std::int64_t step, std::int64_t first, std::int64_t planned) {
  if (planned <= first) return 0;
  const auto done = static_cast<double>(step - first), all = static_cast<double>(planned - first);
  return std::clamp(done / all, 0.0, 1.0);
}

}  // namespace

double learning_rate(const OptimizerSpec& optimizer, std::int64_t step, std::int64_t planned) {
  const double base = optimizer.learning_rate;
  if (step < optimizer.warmup_steps)
    return base * static_cast<double>(step + 1) / static_cast<double>(optimizer.warmup_steps);
  switch (optimizer.schedule) {
    case Schedule::kConstant:
      return base;
    case Schedule::kStep: {
      constexpr std::array kDrops{30.0 / 90, 60.0 / 90, 80.0 / 90};
      const double done = share_done(step, 0, planned);
      const auto drops =
          std::count_if(kDrops.begin(), kDrops.end(), [done](double at) { return done >= at; });
      return base * std::pow(0.1, static_cast<double>(drops));
    }
    case Schedule::kCosine: {
      const double done = share_done(step, optimizer.warmup_steps, planned);
      return base / 2 * (1 + std::cos(std::numbers::pi * done));
    }
  }
  return base;
}

}  // namespace rackmark::worker
