// Runs what a reference file describes on a backend's plan.
#pragma once

#include "worker/backend/backend.hpp"
#include "worker/verify/reference_file.hpp"

namespace rackmark::worker {

// The net of the file. Throws std::invalid_argument when the model is unknown, or defined otherwise
// here than in the file (batch-norm constants, weight of auxiliary heads).
Net net_of(const Reference& reference);

// The file's training steps from its initial values. `plan` was compiled from net_of(reference) for
// its batch, without dropout, and has not run yet. A `moved_by` other than 0 moves
// every initial value by up to 4 roundings, another way for every number: Results that show what
// rounding alone does, since float32 sums of a few hundred terms lose as much in every layer.
Results train(TrainPlan& plan, const Reference& reference, int moved_by = 0);

}  // namespace rackmark::worker
