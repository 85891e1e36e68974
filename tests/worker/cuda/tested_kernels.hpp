#pragma once

#include "worker/backend/cuda/kernels/kernels.hpp"

namespace rackmark::worker::cuda::testing {

// The kernels that *_kernels_test.cpp check: the host's (tested_on_host.cpp), or, in an executable
// of its own for a machine with a GPU, the device's (tested_on_device.cpp), which have finished
// when they return. What they are given must come from `new`: the GPU reads that memory too.
const Kernels& tested_kernels(Type type);

}  // namespace rackmark::worker::cuda::testing
