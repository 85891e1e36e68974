// Which engine runs a convolution: heuristics name engines, rules strike those whose results would
// not be ours, building strikes those that cannot, the clock decides among the first of the rest,
// and a file remembers. Everything but the clock also works for a device that is only described.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/backend/cuda/device/convolution_graph.hpp"
#include "worker/backend/cuda/device/engine_trial.hpp"
#include "worker/backend/cuda/device/plan_cache.hpp"

namespace rackmark::worker::cuda {

inline constexpr std::size_t kTimedCandidates = 12;
inline constexpr std::size_t kCompiledCandidates = 2;

struct ConvolutionCandidate {
  ConvolutionForm form = ConvolutionForm::kWhole;
  EngineChoice choice;
  bool compiled_at_run_time = false;
  std::shared_ptr<const EnginePlan> plan;
  std::int64_t extra_bytes = 0;  // of the form, in front of the engine's own workspace
  std::optional<double> ms;      // of a run, as it was chosen
  std::int64_t workspace_bytes() const { return extra_bytes + plan->workspace_bytes(); }
  std::string name() const;  // "cudnn engine 62 {2=4 ...}, narrow_gradient"
};

// Results are the same bits for the same inputs, sums are float32, and kFull does not multiply in
// TF32.
bool keeps_the_rules(const EngineOffer& offer, const ConvolutionTask& task);

// In the order of preference; all can run. Engines that cuDNN has ready come first: those compiled
// at run time take seconds each, so a few of them are tried, and only when there is no other; of
// integers, which have no other, a few of every form.
// `refusal`, where there is none: the last thing that cuDNN said.
std::vector<ConvolutionCandidate> convolution_candidates(const ConvolutionTask& task,
                                                         const EngineTarget& target,
                                                         std::string* refusal = nullptr);

class ConvolutionPlanner {
 public:
  using Clock =
      std::function<TrialTimes(const ConvolutionTask&, const std::vector<ConvolutionCandidate>&)>;
  // Without a clock the first candidate is taken and nothing is remembered. `target` and `cache`
  // have to outlive the planner.
  ConvolutionPlanner(const EngineTarget& target, PlanCache& cache, Clock clock);
  // Throws NoEngine naming the task when none serves it.
  ConvolutionCandidate choose(const ConvolutionTask& task);

 private:
  std::optional<ConvolutionCandidate> remembered(const ConvolutionTask& task);
  ConvolutionCandidate fastest(const ConvolutionTask& task,
                               std::vector<ConvolutionCandidate> candidates);

  const EngineTarget& target_;
  PlanCache& cache_;
  Clock clock_;
};

}  // namespace rackmark::worker::cuda
