// Which engines a convolution trains with: alone, or with work of the batch norms around it, where
// that is faster.
#pragma once

#include <memory>
#include <optional>

#include "worker/backend/cuda/plan/assembly.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {

struct ConvolutionTasks {
  ConvolutionTask forward, weights;
  std::optional<ConvolutionTask> data;  // none: nobody wants that gradient
};
struct ConvolutionEngines {
  std::shared_ptr<Convolution> forward, weights, data;
};

// Settles `after`, the sums of y, and `before`, the batch norm that x comes from; both may be null.
// Merged work costs an engine something, work of its own is a pass over memory: what takes less is
// taken. Where nothing was timed it is done as it was asked for; what no engine serves, or none
// that could be tried, is not.
ConvolutionEngines choose_engines(Engines& engines, const ConvolutionTasks& tasks, const Place& y,
                                  ChannelSums* after, NormInConvolution* before);

}  // namespace rackmark::worker::cuda
