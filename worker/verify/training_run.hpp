// Runs what a reference file describes on a backend's plan.
#pragma once

#include "worker/backend/backend.hpp"
#include "worker/verify/reference_file.hpp"

namespace rackmark::worker {

// The net of the file. Throws std::invalid_argument when the model is unknown, or defined otherwise
// here than in the file (batch-norm constants, weight of auxiliary heads).
Net net_of(const Reference& reference);

// The file's training steps from its initial values. `plan` was compiled from net_of(reference) for
// its batch, without dropout, and has not run yet.
Results train(TrainPlan& plan, const Reference& reference);

}  // namespace rackmark::worker
