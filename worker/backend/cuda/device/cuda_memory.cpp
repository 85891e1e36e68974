#include "worker/backend/cuda/device/cuda_memory.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/errors.hpp"
#include "worker/backend/cuda/device/random_values.hpp"

namespace rackmark::worker::cuda {

std::shared_ptr<std::byte> device_memory(std::int64_t bytes) {
  void* data = nullptr;
  const auto code = cudaMalloc(&data, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgotten: the device goes on
    std::size_t free = 0, total = 0;
    RM_CUDA(cudaMemGetInfo(&free, &total));
    throw OutOfMemory(bytes, {static_cast<std::int64_t>(free), kGpuMemory});
  }
  check_cuda(code, "cudaMalloc");
  return {static_cast<std::byte*>(data), [](std::byte* p) { cudaFree(p); }};
}

std::shared_ptr<std::byte> random_memory(Type type, std::int64_t bytes, cudaStream_t stream) {
  constexpr std::int64_t kBlock = std::int64_t{4} << 20;
  auto memory = device_memory(bytes);
  std::int64_t filled = std::min(bytes, kBlock);
  const auto block = random_values(type, kBlock / width(type));
  RM_CUDA(cudaMemcpyAsync(memory.get(), block.data(), static_cast<std::size_t>(filled),
                          cudaMemcpyHostToDevice, stream));
  RM_CUDA(cudaStreamSynchronize(stream));
  while (filled < bytes) {  // twice as much each time
    const std::int64_t more = std::min(filled, bytes - filled);
    RM_CUDA(cudaMemcpyAsync(memory.get() + filled, memory.get(), static_cast<std::size_t>(more),
                            cudaMemcpyDeviceToDevice, stream));
    filled += more;
  }
  return memory;
}

std::shared_ptr<std::byte> pinned_memory(std::int64_t bytes) {
  void* data = nullptr;
  const auto code = cudaHostAlloc(&data, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)),
                                  cudaHostAllocPortable);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgotten: the device goes on
    throw OutOfMemory(
        bytes, {sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE), "pinned memory of the host"});
  }
  check_cuda(code, "cudaHostAlloc");
  std::memset(data, 0, static_cast<std::size_t>(bytes));
  return {static_cast<std::byte*>(data), [](std::byte* p) { cudaFreeHost(p); }};
}

}  // namespace rackmark::worker::cuda
