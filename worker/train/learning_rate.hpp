// The learning rate of each step.
#pragma once

#include <cstdint>

#include "common/domain/spec.hpp"

namespace rackmark::worker {

// Step t counts from 0 over warm-up and measured steps together, `planned` of them.
//   first warmup_steps   base * (t + 1) / warmup_steps (Goyal et al. 2017: linear from near 0)
//   constant             base
//   step                 base, then a tenth of it after each of 30/90, 60/90 and 80/90 of the steps
//                        (the classic ImageNet schedule, in shares of the run)
//   cosine               base/2 * (1 + cos(pi * progress)) after the warm-up (Loshchilov 2017)
// After the planned steps it stays where it ended.
double learning_rate(const OptimizerSpec& optimizer, std::int64_t step, std::int64_t planned);

}  // namespace rackmark::worker
