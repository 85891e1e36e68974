// A convolution with its engine, ready to be given to a queue; and the clock by which engines are
// chosen.
#pragma once

#include <functional>
#include <memory>

#include "worker/backend/cuda/device/convolution_planner.hpp"
#include "worker/backend/cuda/device/cuda_queue.hpp"

namespace rackmark::worker::cuda {

// What a convolution runs with; outlives it.
struct ConvolutionSetting {
  cudnnHandle_t handle = nullptr;  // its stream is the queue's
  Queue queue = nullptr;
  std::function<const Kernels&(Type)> kernels;
};

std::unique_ptr<Convolution> make_convolution(const ConvolutionSetting& setting,
                                              const ConvolutionTask& task,
                                              ConvolutionCandidate candidate);

// Runs candidates on random values in memory of its own.
ConvolutionPlanner::Clock convolution_clock(const ConvolutionSetting& setting, CudaQueue& queue);

}  // namespace rackmark::worker::cuda
