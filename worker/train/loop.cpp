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
    hooks_.phase("warmup", options_.warmup);
    last_ns_ = clock_.monotonic_ns();
    for (std::int64_t i = 0; i < options_.warmup; ++i) one_step("warmup", i);

    hooks_.phase("measuring", options_.measured);
    ranks_.barrier();
    window_.start_ns = window_.end_ns = last_ns_ = clock_.monotonic_ns();
    while (!is_over()) {
      one_step("measuring", window_.steps);
      ++window_.steps;
      window_.end_ns = last_ns_;
    }
    if (window_.steps == 0) throw Failure(Reason::kNoValidSteps, "not one step was measured");
    return window_;
  }

 private:
  void one_step(const char* phase, std::int64_t number) {
    hooks_.check();
    StepRecord record = step_();
    const std::int64_t now_ns = clock_.monotonic_ns();
    record.ms = static_cast<double>(now_ns - last_ns_) * 1e-6;
    last_ns_ = now_ns;
    if (options_.has_loss && !std::isfinite(record.loss)) {
      throw Failure(Reason::kNanLoss, "the loss is " + std::to_string(record.loss) + " in " +
                                          phase + " step " + std::to_string(number + 1) +
                                          " of rank " + std::to_string(ranks_.rank()));
    }
    const bool measured = phase[0] == 'm';
    if (measured && options_.has_loss) {
      if (!window_.first_loss) window_.first_loss = record.loss;
      window_.final_loss = record.loss;
    }
    hooks_.step(record, measured);
  }

  bool is_over() {
    if (options_.measured) return window_.steps >= *options_.measured;
    const double elapsed_s = static_cast<double>(window_.end_ns - window_.start_ns) * 1e-9;
    const bool time_is_up = elapsed_s >= options_.measured_seconds.value_or(0);
    if (!options_.end_together || window_.steps == 0) return time_is_up && window_.steps > 0;
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
