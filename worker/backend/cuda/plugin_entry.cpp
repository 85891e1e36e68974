#include "worker/backend/cuda/cuda_backend.hpp"
#include "worker/backend/cuda/device/nvjpeg_decoder.hpp"

extern "C" rackmark::worker::Backend* rackmark_make_backend() {
  return rackmark::worker::make_cuda_backend(
             {.why_none = rackmark::worker::cuda::why_no_cuda_device,
              .open = rackmark::worker::cuda::open_cuda_device,
              .open_file_decoder = rackmark::worker::cuda::open_nvjpeg})
      .release();
}
