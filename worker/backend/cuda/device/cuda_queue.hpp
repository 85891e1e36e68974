// The queue of a GPU (a CUDA stream), points in it, and work recorded from it (CUDA graphs).
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <optional>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

class CudaQueue {
 public:
  CudaQueue();
  CudaQueue(const CudaQueue&) = delete;
  CudaQueue& operator=(const CudaQueue&) = delete;
  ~CudaQueue();
  cudaStream_t stream() const { return stream_; }
  void wait();
  std::unique_ptr<Recording> record(const std::function<void()>& work);
  std::unique_ptr<Mark> make_mark();

 private:
  cudaStream_t stream_ = nullptr;
};

// Milliseconds of one run of `work`: it is run twice as it is, then some runs are recorded and
// replayed, so that what the host spends on giving work is not in it. Work that takes more than
// thrice `best_ms` already then is not run again: that it is slow is all that matters. Throws when
// the work fails or cannot be recorded.
double recorded_ms(CudaQueue& queue, const std::optional<double>& best_ms,
                   const std::function<void()>& work);

}  // namespace rackmark::worker::cuda
