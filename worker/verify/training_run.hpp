// Runs what a reference file describes on a backend's plan.
#pragma once

#include <string>

#include "worker/backend/backend.hpp"
#include "worker/verify/reference_file.hpp"

namespace rackmark::worker {

// The net of the file. Throws std::invalid_argument when the model is unknown, or defined otherwise
// here than in the file (batch-norm constants, weight of auxiliary heads).
Net net_of(const Reference& reference);

// How far initial values are moved, to show what rounding alone does: each by another share of
// `most` of itself, another way for every run but 0, which moves nothing.
struct Moved {
  int run = 0;
  float most = 0;
};
// Up to 4 roundings of float32, since its sums of a few hundred terms lose as much in every layer.
// In fp16 and tf32 up to one of their own: rounded by less, runs would meet the same few ReLUs that
// roundings flip, and another order of sums others. In bf16 every run meets many.
Moved moved_by_rounding(const std::string& precision, int run);

// The file's training steps from its initial values. `plan` was compiled from net_of(reference) for
// its batch, without dropout, and has not run yet.
Results train(TrainPlan& plan, const Reference& reference, const Moved& moved = {});

}  // namespace rackmark::worker
