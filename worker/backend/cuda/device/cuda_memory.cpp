#include "worker/backend/cuda/device/cuda_memory.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

struct FloatLayout {
  std::uint32_t half_exponent;  // the bits of 0.5
  int mantissa_bits, sign_bit;
};
FloatLayout layout_of(Type type) {
  switch (type) {
    case Type::kFloat:
      return {0x3F000000, 23, 31};
    case Type::kHalf:
      return {0x3800, 10, 15};
    case Type::kBfloat:
      return {0x3F00, 7, 15};
  }
  return {};
}

// xorshift: enough for values whose only task is not to be alike.
std::vector<std::byte> random_block(Type type, std::size_t bytes) {
  const auto [exponent, mantissa_bits, sign_bit] = layout_of(type);
  const std::size_t value_bytes = static_cast<std::size_t>(width(type));
  std::vector<std::byte> block(bytes / value_bytes * value_bytes);
  std::uint32_t state = 0x9E3779B9;
  for (std::size_t at = 0; at < block.size(); at += value_bytes) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    const std::uint32_t sign = (state >> 31) << sign_bit;
    const std::uint32_t bits = exponent | (state & ((1U << mantissa_bits) - 1)) | sign;
    std::memcpy(&block[at], &bits, value_bytes);  // little endian
  }
  return block;
}

}  // namespace

std::shared_ptr<std::byte> device_memory(std::int64_t bytes) {
  void* data = nullptr;
  const auto code = cudaMalloc(&data, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgotten: the device goes on
    std::size_t free = 0, total = 0;
    RM_CUDA(cudaMemGetInfo(&free, &total));
    throw OutOfMemory(bytes, static_cast<std::int64_t>(free));
  }
  check_cuda(code, "cudaMalloc");
  return {static_cast<std::byte*>(data), [](std::byte* p) { cudaFree(p); }};
}

std::shared_ptr<std::byte> random_memory(Type type, std::int64_t bytes, cudaStream_t stream) {
  constexpr std::int64_t kBlock = std::int64_t{4} << 20;
  auto memory = device_memory(bytes);
  std::int64_t filled = std::min(bytes, kBlock);
  const auto block = random_block(type, static_cast<std::size_t>(kBlock));
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
  RM_CUDA(cudaHostAlloc(&data, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)),
                        cudaHostAllocPortable));
  std::memset(data, 0, static_cast<std::size_t>(bytes));
  return {static_cast<std::byte*>(data), [](std::byte* p) { cudaFreeHost(p); }};
}

}  // namespace rackmark::worker::cuda
