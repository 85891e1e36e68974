// The queue of a GPU (a CUDA stream), points in it, and work recorded from it (CUDA graphs).
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

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

}  // namespace rackmark::worker::cuda
