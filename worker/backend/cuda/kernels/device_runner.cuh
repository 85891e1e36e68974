// How a body runs on the device: the grid, and the check that it was launched.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "worker/backend/cuda/kernels/rows.hpp"

namespace rackmark::worker::cuda::bodies {

// How many blocks a processor is to hold at least. 0 where a body does not say: then ptxas weighs
// registers against threads by itself, which 1 would forbid.
template <class Body>
constexpr int least_blocks() {
  if constexpr (requires { Body::kBlocksPerProcessor; }) return Body::kBlocksPerProcessor;
  return 0;
}

template <class Body>
__global__ void __launch_bounds__(kThreads, least_blocks<Body>())
    rows_kernel(const __grid_constant__ Body body, const Walk walk) {
  walk_rows(body, walk, blockIdx.x * kThreads + threadIdx.x);
}

template <class Body>
__global__ void __launch_bounds__(kThreads, Body::kBlocksPerProcessor)
    phases_kernel(const __grid_constant__ Body body) {
  __shared__ typename Body::Shared shared;
  const int phases = body.phases();
  for (int phase = 0; phase < phases; ++phase) {
    if (phase > 0) __syncthreads();
    body.phase(phase, static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x), shared);
  }
}

template <class Body>
__global__ void once_kernel(const __grid_constant__ Body body) {
  body.run();
}

struct Device {
  // A thread has about 8 rows, which pay for what it does once; fewer where the matrix is too small
  // to fill an H200's 132 processors 8 times over; more where the grid would pass 32 fillings, of
  // which the last, half empty, costs little.
  template <class Body>
  static void rows(Queue queue, const char* name, const Body& body, std::int64_t rows,
                   int channels) {
    constexpr std::int64_t kProcessors = 132, kRows = 8, kSegmentBlocks = 32;
    const std::int64_t groups = groups_of(channels), items = rows * groups;
    if (items == 0) return;
    const std::int64_t all = blocks_for(items), few = blocks_for((items + kRows - 1) / kRows);
    const std::int64_t wanted = std::max(few, std::min(all, kProcessors * 8));
    const std::int64_t blocks = std::max(std::min(wanted, kProcessors * 32), blocks_for(groups));
    const Walk walk =
        walk_over(rows, channels, blocks * kThreads, std::int64_t{kSegmentBlocks} * kThreads);
    rows_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream(queue)>>>(body, walk);
    check_launch(name);
  }

  template <class Body>
  static void phases(Queue queue, const char* name, const Body& body, int blocks) {
    if (blocks == 0) return;
    phases_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream(queue)>>>(body);
    check_launch(name);
  }

  template <class Body>
  static void once(Queue queue, const char* name, const Body& body) {
    once_kernel<<<1, 1, 0, stream(queue)>>>(body);
    check_launch(name);
  }

 private:
  static std::int64_t blocks_for(std::int64_t threads) {
    return (threads + kThreads - 1) / kThreads;
  }
  static cudaStream_t stream(Queue queue) { return static_cast<cudaStream_t>(queue); }
  static void check_launch(const char* name) {
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return;
    throw std::runtime_error(std::string("CUDA: kernel ") + name + ": " + cudaGetErrorName(error) +
                             " (" + cudaGetErrorString(error) + ")");
  }
};

// add(T{}) with the stored type; integers have few kernels, see integers.hpp.
template <class Add>
void by_type(Type type, const Add& add) {
  switch (type) {
    case Type::kFloat:
      return add(float{});
    case Type::kHalf:
      return add(Half{});
    case Type::kBfloat:
      return add(Bfloat{});
    case Type::kInteger:
      return;
  }
}

}  // namespace rackmark::worker::cuda::bodies
