// How far two ways to compute the same logits agree.
#pragma once

#include <span>

#include "common/protocol/worker_event.hpp"

namespace rackmark::worker {

// The cosine decides, top-1 is only told: a random network's first class has no margin (with noise
// a third of what tells pictures apart, cosine 0.95, most pictures change theirs), and noise grows
// on its way through fifty random layers. Measured: 0.71 (ResNet-50 at 64 pixels, 7 bit weights)
// to 1. bf16 lies above int8.
inline constexpr double kCosineFloor = 0.6;

// Both are pictures x classes, row major; at least two pictures. From both the mean of `exact` over
// the pictures is taken, class by class. With a single class its sign counts as top-1.
protocol::Agreement compare_logits(std::span<const double> exact, std::span<const double> other,
                                   std::size_t classes);

bool is_enough(const protocol::Agreement& agreement);

}  // namespace rackmark::worker
