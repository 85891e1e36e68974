#include "worker/train/loop.hpp"

#include <cmath>

#include "worker/failure.hpp"

namespace rackmark::worker {

namespace {

class Loop {
 public:
  Loop(const LoopOptions& options, const TrainingStep& step, Communicator& ranks,
       const Clock& clock, const LoopHooks& hooks)
      : options_(options), step_(step), ranks_(ranks), clock_(clock), hooks_(hooks) {}

  Window run() {
    if (options_.measured == 0) throw Failure(Reason::kNoValidSteps, "no step is to be measured");
    hooks_.phase("warmup", options_.warmup);
    last_ns_ = clock_.monotonic_ns();
    for (std::int64_t i = 0; i < options_.warmup; ++i) {
      StepRecord record = one_step("warmup", i);
      if (i + 1 == options_.warmup) settle(record);
      hooks_.step(record, false);
    }

    hooks_.phase("measuring", options_.measured);
    ranks_.barrier();
    window_.start_ns = window_.end_ns = last_ns_ = clock_.monotonic_ns();
    for (bool over = false; !over;) {
      StepRecord record = one_step("measuring", window_.steps);
      ++window_.steps;
      window_.end_ns = last_ns_;
      over = is_over();
      if (over) settle(record);
      window_.end_ns = last_ns_;
      keep_loss(record);
      hooks_.step(record, true);
    }
    return window_;
  }

 private:
  StepRecord one_step(const char* phase, std::int64_t number) {
    hooks_.check();
    StepRecord record = step_();
    take_time(record);
    if (options_.has_loss && !std::isfinite(record.loss)) {
      throw Failure(Reason::kNanLoss, "the loss is " + std::to_string(record.loss) + " in " +
                                          phase + " step " + std::to_string(number + 1) +
                                          " of rank " + std::to_string(ranks_.rank()));
    }
    return record;
  }

  void take_time(StepRecord& record) {
    const std::int64_t now_ns = clock_.monotonic_ns();
    record.ms += static_cast<double>(now_ns - last_ns_) * 1e-6;
    last_ns_ = now_ns;
  }

  // The step that leads to the end of a phase takes its update with it.
  void settle(StepRecord& record) {
    if (!hooks_.settle) return;
    const ExchangeWaits waits = hooks_.settle();
    record.exposed_communication_ms += waits.communication_ms;
    record.server_wait_ms += waits.server_ms;
    take_time(record);
  }

  void keep_loss(const StepRecord& record) {
    if (!options_.has_loss) return;
    if (!window_.first_loss) window_.first_loss = record.loss;
    window_.final_loss = record.loss;
  }

  bool is_over() {
    if (options_.measured) return window_.steps >= *options_.measured;
    const double elapsed_s = static_cast<double>(window_.end_ns - window_.start_ns) * 1e-9;
    const bool time_is_up = elapsed_s >= options_.measured_seconds.value_or(0);
    if (!options_.end_together) return time_is_up;
    return ranks_.all_reduce_max(time_is_up ? 1 : 0) > 0;
  }

  const LoopOptions& options_;
  const TrainingStep& step_;
  Communicator& ranks_;
  const Clock& clock_;
  const LoopHooks& hooks_;
  Window window_;
  std::int64_t last_ns_ = 0;
};

}  // namespace

Window run_loop(const LoopOptions& options, const TrainingStep& step, Communicator& ranks,
                const Clock& clock, const LoopHooks& hooks) {
  return Loop(options, step, ranks, clock, hooks).run();
}

}  // namespace rackmark::worker
