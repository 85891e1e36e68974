#include "worker/backend/cuda/plan/convolution_choice.hpp"

#include <algorithm>
#include <initializer_list>

#include "worker/backend/cuda/plan/norm_times.hpp"

namespace rackmark::worker::cuda {
namespace {

using Ms = std::optional<double>;  // none: not timed

Ms sum_of(std::initializer_list<Ms> parts) {
  double sum = 0;
  for (const Ms& part : parts) {
    if (!part) return std::nullopt;
    sum += *part;
  }
  return sum;
}

// Engines that could not be timed may not even run: they replace none that was.
bool pays(const Ms& merged, const Ms& separate, std::initializer_list<Ms> replaced) {
  const auto was_timed = [](const Ms& ms) { return ms.has_value(); };
  if (!merged) return std::none_of(replaced.begin(), replaced.end(), was_timed);
  return !separate || *merged < *separate;
}

class Choice {
 public:
  Choice(Engines& engines, const ConvolutionTasks& tasks, const Place& y, ChannelSums* after,
         NormInConvolution* before)
      : engines_(engines), tasks_(tasks), y_(y), after_(after), before_(before) {}

  ConvolutionEngines make() {
    chosen_ = {engines_.find(tasks_.forward), engines_.find(tasks_.weights),
               tasks_.data ? engines_.find(*tasks_.data) : nullptr};
    forward_ms_ = chosen_.forward->ms();
    if (after_ != nullptr) choose_sums_after();
    if (before_ != nullptr && tasks_.data && !tasks_.data->accumulate) choose_sums_before();
    return chosen_;
  }

 private:
  void choose_sums_after() {
    ConvolutionTask task = tasks_.forward;
    task.statistics = true;
    const auto with = engines_.find_if_served(task);
    const Ms without_ms = forward_ms_;
    if (without_ms) forward_ms_ = sum_of({without_ms, norm_sums_ms(engines_.device(), y_)});
    after_->made = with && pays(with->ms(), forward_ms_, {without_ms});
    if (!after_->made) return;
    forward_ms_ = with->ms();
    chosen_.forward = with;
  }

  void choose_sums_before() {
    ConvolutionTask task = *tasks_.data;
    task.norm_sums = true;
    const auto with = engines_.find_if_served(task);
    if (!with) return;
    Ms separate_ms = chosen_.data->ms();
    if (separate_ms) {
      separate_ms = sum_of({separate_ms, norm_backward_sums_ms(engines_.device(), before_->x)});
    }
    before_->sums = pays(with->ms(), separate_ms, {chosen_.data->ms()});
    choose_norming(with->ms(), before_->sums ? with->ms() : separate_ms);
    if (before_->sums) chosen_.data = with;
  }

  // Without the normed value in memory there is no mask of its ReLU: what norms makes the sums,
  // too.
  void choose_norming(const Ms& summing_ms, const Ms& backward_data_ms) {
    if (!before_->may_apply || after_ == nullptr) return;  // engines norm only where they also sum
    ConvolutionTask forward_task = tasks_.forward, weights_task = tasks_.weights;
    forward_task.normed = weights_task.normed = forward_task.statistics = true;
    const auto forward = engines_.find_if_served(forward_task),
               weights = engines_.find_if_served(weights_task);
    if (!forward || !weights) return;
    const Ms merged_ms = sum_of({forward->ms(), weights->ms(), summing_ms});
    Ms separate_ms = sum_of({forward_ms_, chosen_.weights->ms(), backward_data_ms});
    if (separate_ms) {
      separate_ms = sum_of({separate_ms, norm_apply_ms(engines_.device(), before_->x)});
    }
    if (!pays(merged_ms, separate_ms,
              {chosen_.forward->ms(), chosen_.weights->ms(), chosen_.data->ms()})) {
      return;
    }
    before_->applies = before_->sums = after_->made = true;
    chosen_.forward = forward;
    chosen_.weights = weights;
  }

  Engines& engines_;
  const ConvolutionTasks& tasks_;
  const Place& y_;
  ChannelSums* after_;
  NormInConvolution* before_;
  ConvolutionEngines chosen_;
  Ms forward_ms_;  // with the sums of y, where they are wanted
};

}  // namespace

ConvolutionEngines choose_engines(Engines& engines, const ConvolutionTasks& tasks, const Place& y,
                                  ChannelSums* after, NormInConvolution* before) {
  return Choice(engines, tasks, y, after, before).make();
}

}  // namespace rackmark::worker::cuda
