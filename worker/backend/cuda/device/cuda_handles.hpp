// Owners of streams and events beside the queue's.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {

struct StreamCloser {  // waits for what it was given
  void operator()(cudaStream_t stream) const {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
};
using Stream = std::unique_ptr<CUstream_st, StreamCloser>;
inline Stream make_stream(int priority = 0) {
  cudaStream_t stream = nullptr;
  RM_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority));
  return Stream(stream);
}

struct EventCloser {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<CUevent_st, EventCloser>;  // orders streams, measures nothing
inline Event make_event() {
  cudaEvent_t event = nullptr;
  RM_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}

}  // namespace rackmark::worker::cuda
