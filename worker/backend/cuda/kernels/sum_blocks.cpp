#include "worker/backend/cuda/kernels/kernels.hpp"
#include "worker/backend/cuda/kernels/sums.hpp"

namespace rackmark::worker::cuda {

int sum_blocks(std::int64_t rows, int channels) {
  return bodies::plan_sums(rows, channels).row_blocks;
}

}  // namespace rackmark::worker::cuda
