#include "worker/backend/cuda/cuda_backend.hpp"

extern "C" rackmark::worker::Backend* rackmark_make_backend() {
  return rackmark::worker::make_cuda_backend(
             {rackmark::worker::cuda::why_no_cuda_device, rackmark::worker::cuda::open_cuda_device})
      .release();
}
