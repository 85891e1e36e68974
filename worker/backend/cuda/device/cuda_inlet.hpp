// Batches on a stream of their own, from pinned memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "worker/backend/cuda/device/cuda_handles.hpp"
#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

class CudaInlet final : public Inlet {
 public:
  CudaInlet(std::int64_t bytes, cudaStream_t queue);
  CudaInlet(const CudaInlet&) = delete;
  CudaInlet& operator=(const CudaInlet&) = delete;
  ~CudaInlet() override;  // waits for what is on its way

  void bring(const std::vector<Piece>& pieces) override;
  void release() override;

 private:
  void send(const Piece& piece, std::byte* through);

  std::int64_t room_;
  cudaStream_t queue_;
  std::shared_ptr<std::byte> pinned_;  // given back after the stream has been waited for
  Stream stream_;
  Event arrived_;         // of the stream: the last batch is on the device
  Event free_;            // of the queue: the last batch has been read there
  bool is_read_ = false;  // `free_` has been set since the last bring()
};

}  // namespace rackmark::worker::cuda
