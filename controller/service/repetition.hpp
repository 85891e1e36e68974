// How often a job is measured.
#pragma once

#include <span>

#include "common/domain/spec.hpp"

namespace rackmark::service {

// Whether another repetition follows after `done` of them. `rates`: images per second so far;
// `minutes`: since the first began. With a target, until the standard error / mean is at most it;
// never past max or max_minutes.
bool wants_another(const RepetitionsSpec& wanted, std::int64_t done, std::span<const double> rates,
                   double minutes);

}  // namespace rackmark::service
