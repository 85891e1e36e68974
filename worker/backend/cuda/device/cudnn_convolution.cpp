#include "worker/backend/cuda/device/cudnn_convolution.hpp"

#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/cuda_memory.hpp"
#include "worker/backend/cuda/device/engine_trial.hpp"

namespace rackmark::worker::cuda {
namespace {

std::int64_t x_pixel(const ConvolutionTask& t) { return t.x_stride > 0 ? t.x_stride : t.channels; }
std::int64_t y_pixel(const ConvolutionTask& t) { return t.y_stride > 0 ? t.y_stride : t.out; }
std::int64_t x_rows(const ConvolutionTask& t) {
  return std::int64_t{t.images} * t.height * t.width;
}
std::int64_t y_rows(const ConvolutionTask& t) {
  return std::int64_t{t.images} * t.out_height() * t.out_width();
}
std::int64_t weight_count(const ConvolutionTask& t) {
  return std::int64_t{t.out} * t.channels * t.kernel_h * t.kernel_w;
}
Matrix x_matrix(const ConvolutionTask& t, void* data) {
  return {.data = data, .rows = x_rows(t), .channels = t.channels, .stride = x_pixel(t)};
}
Matrix y_matrix(const ConvolutionTask& t, const void* data) {
  return {
      .data = const_cast<void*>(data), .rows = y_rows(t), .channels = t.out, .stride = y_pixel(t)};
}

class CudnnConvolution final : public Convolution {
 public:
  CudnnConvolution(const ConvolutionSetting& setting, const ConvolutionTask& task,
                   ConvolutionCandidate candidate)
      : setting_(setting),
        kernels_(setting.kernels(task.type)),
        task_(task),
        candidate_(std::move(candidate)) {}
  std::int64_t workspace_bytes() const override { return candidate_.workspace_bytes(); }
  std::string implementation() const override { return candidate_.name(); }
  std::optional<double> ms() const override { return candidate_.ms; }
  void run(const ConvolutionOperands& operands, void* workspace) override;

 private:
  void before(const ConvolutionOperands& operands, void* extra);
  std::vector<EnginePlan::Binding> bindings(const ConvolutionOperands& operands, void* extra) const;
  void bind_normed(const ConvolutionOperands& operands,
                   std::vector<EnginePlan::Binding>& bound) const;
  void bind_norm_sums(const NormOperands& norm, std::vector<EnginePlan::Binding>& bound) const;
  void after(const ConvolutionOperands& operands, void* extra);
  void add_epilogue(const ConvolutionOperands& operands);

  const ConvolutionSetting& setting_;
  const Kernels& kernels_;
  ConvolutionTask task_;
  ConvolutionCandidate candidate_;
};

void CudnnConvolution::run(const ConvolutionOperands& operands, void* workspace) {
  auto* extra = static_cast<std::byte*>(workspace);
  before(operands, extra);
  candidate_.plan->run(setting_.handle, bindings(operands, extra), extra + candidate_.extra_bytes);
  after(operands, extra);
}

void CudnnConvolution::before(const ConvolutionOperands& operands, void* extra) {
  if (candidate_.form != ConvolutionForm::kNarrowBias || operands.narrow_bias != nullptr) return;
  kernels_.narrow(setting_.queue, {.from = operands.bias, .to = extra, .count = task_.out});
}

std::vector<EnginePlan::Binding> CudnnConvolution::bindings(const ConvolutionOperands& operands,
                                                            void* extra) const {
  using enum ConvolutionForm;
  const auto form = candidate_.form;
  void* x = form == kSeparateSum ? extra : operands.x;
  switch (task_.pass) {
    case ConvolutionPass::kBackwardData: {
      std::vector<EnginePlan::Binding> bound{
          {kTensorX, x}, {kTensorW, const_cast<void*>(operands.w)}, {kTensorY, operands.y}};
      if (form == kAddedAfter) bound.push_back({kTensorResidual, operands.x});
      if (task_.norm_sums) bind_norm_sums(operands.norm, bound);
      return bound;
    }
    case ConvolutionPass::kBackwardWeights: {
      std::vector<EnginePlan::Binding> bound{
          {kTensorX, x},
          {kTensorY, operands.y},
          {kTensorGradient, form == kNarrowGradient ? extra : operands.gradient}};
      if (task_.normed) bind_normed(operands, bound);
      return bound;
    }
    case ConvolutionPass::kForward:
      break;
  }
  void* y = form == kCopiedResult ? extra : operands.y;
  std::vector<EnginePlan::Binding> bound{
      {kTensorX, x}, {kTensorW, const_cast<void*>(operands.w)}, {kTensorY, y}};
  if (task_.normed) bind_normed(operands, bound);
  if (form == kBareForward) return bound;
  if (task_.bias) {
    const void* narrow = operands.narrow_bias != nullptr ? operands.narrow_bias : extra;
    const void* bias = form == kNarrowBias ? narrow : operands.bias;
    bound.push_back({kTensorBias, const_cast<void*>(bias)});
  }
  if (task_.residual) bound.push_back({kTensorResidual, const_cast<void*>(operands.residual)});
  if (task_.is_integer()) {
    bound.push_back({kTensorScale, const_cast<float*>(operands.scale)});
    if (task_.residual) {
      bound.push_back({kTensorResidualScale, const_cast<float*>(operands.residual_scale)});
    }
  }
  if (task_.statistics) {
    bound.push_back({kTensorSum, operands.sums});
    bound.push_back({kTensorSquareSum, operands.sums + task_.out});
  }
  return bound;
}

void CudnnConvolution::bind_normed(const ConvolutionOperands& operands,
                                   std::vector<EnginePlan::Binding>& bound) const {
  bound.push_back({kTensorNormScale, const_cast<void*>(operands.x_scale)});
  bound.push_back({kTensorNormShift, const_cast<void*>(operands.x_shift)});
}

void CudnnConvolution::bind_norm_sums(const NormOperands& norm,
                                      std::vector<EnginePlan::Binding>& bound) const {
  bound.push_back({kTensorNormX, const_cast<void*>(norm.x)});
  bound.push_back({kTensorNormMean, const_cast<float*>(norm.mean)});
  bound.push_back({kTensorNormInverseDeviation, const_cast<float*>(norm.inverse_deviation)});
  bound.push_back({kTensorNormWeight, const_cast<float*>(norm.weight)});
  bound.push_back({kTensorNormBias, const_cast<float*>(norm.bias)});
  for (int i = 0; i < NormOperands::kSums; ++i) {
    bound.push_back({kTensorNormSums + i, norm.sums + std::int64_t{i} * task_.channels});
  }
}

void CudnnConvolution::after(const ConvolutionOperands& operands, void* extra) {
  switch (candidate_.form) {
    case ConvolutionForm::kBareForward:
      return add_epilogue(operands);
    case ConvolutionForm::kSeparateSum: {
      const Matrix sum{.data = extra,
                       .rows = x_rows(task_),
                       .channels = task_.channels,
                       .stride = task_.channels};
      return kernels_.copy(setting_.queue,
                           {.from = sum, .to = x_matrix(task_, operands.x), .accumulate = true});
    }
    case ConvolutionForm::kNarrowGradient:
      return kernels_.widen(setting_.queue,
                            {.from = extra, .to = operands.gradient, .count = weight_count(task_)});
    case ConvolutionForm::kCopiedResult: {
      Matrix dense = y_matrix(task_, extra);
      dense.stride = task_.out;
      return setting_.kernels(task_.stored_y())
          .copy(setting_.queue, {.from = dense, .to = y_matrix(task_, operands.y)});
    }
    default:
      return;
  }
}

void CudnnConvolution::add_epilogue(const ConvolutionOperands& operands) {
  const Matrix y = y_matrix(task_, operands.y);
  const bool relu_last = task_.relu && task_.residual;
  if (task_.bias) {
    kernels_.add_bias(setting_.queue,
                      {.x = y, .y = y, .bias = operands.bias, .relu = task_.relu && !relu_last});
  }
  if (task_.residual) {
    const Matrix residual = y_matrix(task_, operands.residual);
    kernels_.sum(setting_.queue, {.a = y, .b = residual, .y = y, .relu = task_.relu});
  }
  if (task_.relu && !task_.bias && !task_.residual)
    kernels_.rectify(setting_.queue, {.x = y, .y = y});
}

// All that a task reads and writes, of random values.
class TrialOperands {
 public:
  TrialOperands(const ConvolutionTask& t, cudaStream_t stream) : task_(t), stream_(stream) {
    operands_.x = take(t.type, x_rows(t) * x_pixel(t));
    operands_.y = take(t.stored_y(), y_rows(t) * y_pixel(t));
    operands_.w = take(t.type, weight_count(t));
    operands_.bias = static_cast<float*>(take(Type::kFloat, t.out));
    operands_.sums = static_cast<float*>(take(Type::kFloat, std::int64_t{2} * t.out));
    if (t.residual) {
      operands_.residual = take(t.stored_residual(), y_rows(t) * t.stored_residual_stride());
    }
    if (t.is_integer()) {
      operands_.scale = static_cast<float*>(take(Type::kFloat, t.out));
      operands_.residual_scale = static_cast<float*>(take(Type::kFloat, 1));
    }
    if (t.pass == ConvolutionPass::kBackwardWeights) {
      operands_.gradient = static_cast<float*>(take(Type::kFloat, weight_count(t)));
    }
    if (t.normed) {
      operands_.x_scale = take(t.type, t.channels);
      operands_.x_shift = take(t.type, t.channels);
    }
    if (t.norm_sums) take_norm();
  }
  const ConvolutionOperands& operands() const { return operands_; }
  const ConvolutionTask& task() const { return task_; }

 private:
  void take_norm() {
    const auto array = [&](int rows) {
      return static_cast<float*>(take(Type::kFloat, std::int64_t{rows} * task_.channels));
    };
    operands_.norm = {.x = take(task_.type, x_rows(task_) * x_pixel(task_)),
                      .mean = array(1),
                      .inverse_deviation = array(1),
                      .weight = array(1),
                      .bias = array(1),
                      .sums = array(NormOperands::kSums)};
  }
  void* take(Type type, std::int64_t count) {
    return held_.emplace_back(random_memory(type, count * width(type), stream_)).get();
  }
  ConvolutionTask task_;
  cudaStream_t stream_;
  std::vector<std::shared_ptr<std::byte>> held_;
  ConvolutionOperands operands_;
};

}  // namespace

std::unique_ptr<Convolution> make_convolution(const ConvolutionSetting& setting,
                                              const ConvolutionTask& task,
                                              ConvolutionCandidate candidate) {
  return std::make_unique<CudnnConvolution>(setting, task, std::move(candidate));
}

ConvolutionPlanner::Clock convolution_clock(const ConvolutionSetting& setting, CudaQueue& queue) {
  return [&setting, &queue](const ConvolutionTask& task,
                            const std::vector<ConvolutionCandidate>& candidates) {
    try {
      const TrialOperands trial(task, queue.stream());
      std::vector<std::string> names;
      for (const auto& candidate : candidates) names.push_back(candidate.name());
      return trial_times(queue, task_text(task), names, [&](std::size_t i) {
        const auto workspace = device_memory(candidates[i].workspace_bytes());
        const auto convolution =
            std::make_shared<CudnnConvolution>(setting, trial.task(), candidates[i]);
        return [&trial, workspace, convolution] {
          convolution->run(trial.operands(), workspace.get());
        };
      });
    } catch (const OutOfMemory&) {  // no room even for the operands
      return TrialTimes(candidates.size());
    }
  };
}

}  // namespace rackmark::worker::cuda
