#include "worker/backend/cuda/device/cuda_inlet.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "worker/backend/cuda/device/cuda_memory.hpp"
#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {

CudaInlet::CudaInlet(std::int64_t bytes, cudaStream_t queue)
    : room_(bytes),
      queue_(queue),
      pinned_(pinned_memory(bytes)),
      stream_(make_stream()),
      arrived_(make_event()),
      free_(make_event()) {}

CudaInlet::~CudaInlet() = default;

void CudaInlet::bring(const std::vector<Piece>& pieces) {
  std::int64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.bytes;
  if (bytes > room_) {
    throw std::invalid_argument("cuda: an inlet for " + std::to_string(room_) +
                                " bytes was given " + std::to_string(bytes));
  }
  if (!is_read_) release();
  is_read_ = false;
  // The host's copy of the batch before is free when that has arrived, as it mostly has: the step
  // before was waited for. The device's is free when the queue has read it.
  RM_CUDA(cudaEventSynchronize(arrived_.get()));
  RM_CUDA(cudaStreamWaitEvent(stream_.get(), free_.get(), 0));
  std::byte* through = pinned_.get();
  for (const Piece& piece : pieces) {
    send(piece, through);
    through += piece.bytes;
  }
  RM_CUDA(cudaEventRecord(arrived_.get(), stream_.get()));
  RM_CUDA(cudaStreamWaitEvent(queue_, arrived_.get(), 0));
}

// In blocks: one travels while the host writes the next.
void CudaInlet::send(const Piece& piece, std::byte* through) {
  constexpr std::int64_t kBlock = std::int64_t{4} << 20;
  for (std::int64_t done = 0; done < piece.bytes; done += kBlock) {
    const auto bytes = static_cast<std::size_t>(std::min(kBlock, piece.bytes - done));
    std::memcpy(through + done, static_cast<const std::byte*>(piece.from) + done, bytes);
    RM_CUDA(cudaMemcpyAsync(static_cast<std::byte*>(piece.to) + done, through + done, bytes,
                            cudaMemcpyHostToDevice, stream_.get()));
  }
}

void CudaInlet::release() {
  RM_CUDA(cudaEventRecord(free_.get(), queue_));
  is_read_ = true;
}

}  // namespace rackmark::worker::cuda
