// The time that the convolutions of a net need alone: see ConvolutionBound in backend/ceilings.hpp.
#pragma once

#include <memory>

#include "worker/backend/backend.hpp"

namespace rackmark::worker::onednn {

// Takes batch and threads of `options`; float32. Tries every direct implementation once and keeps
// the fastest of each shape and pass. Throws OutOfMemory.
std::unique_ptr<BoundMeter> make_convolution_bound(const Net& net, const PlanOptions& options,
                                                   bool training);

}  // namespace rackmark::worker::onednn
