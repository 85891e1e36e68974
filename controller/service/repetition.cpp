#include "controller/service/repetition.hpp"

#include <vector>

#include "common/measure/statistics.hpp"

namespace rackmark::service {

bool wants_another(const RepetitionsSpec& wanted, std::int64_t done, std::span<const double> rates,
                   double minutes) {
  if (done >= wanted.max) return false;
  if (wanted.max_minutes && minutes >= *wanted.max_minutes) return false;
  if (done < wanted.min) return true;
  if (!wanted.target_rse) return false;
  const measure::StepStatistics over_runs = measure::step_statistics(rates);
  if (!over_runs.standard_error_ms || !over_runs.mean_ms || *over_runs.mean_ms <= 0) return true;
  return *over_runs.standard_error_ms / *over_runs.mean_ms > *wanted.target_rse;
}

}  // namespace rackmark::service
