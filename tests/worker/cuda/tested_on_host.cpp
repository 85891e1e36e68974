#include "tests/worker/cuda/tested_kernels.hpp"

namespace rackmark::worker::cuda::testing {

const Kernels& tested_kernels(Type type) { return host_kernels(type); }

}  // namespace rackmark::worker::cuda::testing
