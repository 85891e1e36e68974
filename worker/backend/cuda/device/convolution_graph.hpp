// Convolution tasks as cuDNN graphs. Not every engine serves every way of saying a task, so a task
// has several forms, the one to try first in front.
#pragma once

#include <vector>

#include "worker/backend/cuda/device/cudnn_graph.hpp"
#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

// How a run names the memory of a graph's tensors.
enum ConvolutionTensor : std::int64_t {
  kTensorX = 1,
  kTensorW,
  kTensorY,
  kTensorBias,
  kTensorResidual,  // of backward data: what dx is added to, the same memory as x
  kTensorGradient,
  kTensorSum,  // of y, by output channel
  kTensorSquareSum,
  kTensorScale,  // of integers, by output channel
  kTensorResidualScale,
  kTensorNormScale,  // of a normed x, by channel
  kTensorNormShift,
  kTensorNormX,  // of the batch norm whose sums are made
  kTensorNormMean,
  kTensorNormInverseDeviation,
  kTensorNormWeight,
  kTensorNormBias,
  kTensorNormSums,  // NormOperands::kSums of them, a tensor each
  kFirstVirtual = 100,
};

enum class ConvolutionForm : std::uint8_t {
  kWhole,        // one graph does all that the task says
  kNarrowBias,   // forward: the bias in the stored type, made so by a kernel if it is not at hand
  kBareForward,  // forward: without its epilogue, which a kernel adds afterwards
  kAddedAfter,   // backward data, accumulate: a sum at the exit instead of the factor beta = 1
  kSeparateSum,  // backward data, accumulate: into the workspace, to be added by a kernel
  kConvertedGradient,  // backward weights: converted to float at the exit
  kNarrowGradient,     // backward weights: in the stored type, to be widened by a kernel
  kCopiedResult,       // forward of integers into a concat: dense, copied there by a kernel
};
const char* form_name(ConvolutionForm form);
std::vector<ConvolutionForm> forms_of(const ConvolutionTask& task);

Graph convolution_graph(const ConvolutionTask& task, ConvolutionForm form,
                        const EngineTarget& target);

// "conv forward half 256x64x56x56:64 -> 64:64 k3x3 s1 p1,1 +bias +relu" (x_stride and y_stride
// after the colons): for errors, logs and cache keys.
std::string task_text(const ConvolutionTask& task);

}  // namespace rackmark::worker::cuda
