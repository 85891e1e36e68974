// The time that the convolutions of a net need alone on a device: ConvolutionBound of ceilings.hpp.
#pragma once

#include <memory>

#include "worker/backend/ceilings.hpp"
#include "worker/backend/cuda/device/device.hpp"
#include "worker/backend/cuda/plan/precision.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::cuda {

// Each with the engine that a plan of the same device has chosen, alone, without an epilogue, on
// values unlike zero. Throws OutOfMemory.
std::unique_ptr<BoundMeter> make_convolution_bound(std::shared_ptr<Device> device, const Net& net,
                                                   int batch, const Precision& precision,
                                                   bool training);

}  // namespace rackmark::worker::cuda
