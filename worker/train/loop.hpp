// The training loop: warm-up, barrier, measured window.
//
// The window of a rank runs on its own monotonic clock from leaving the barrier after warm-up to
// the end of its last step, update included. A step's time runs from the end of the step before, so
// that the steps of a window add up to the window. Where a step's update may reach into the next
// step (parameter server), it is waited for before the barrier and at the end of the last step: as
// many updates as steps lie in a window.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/clock.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/measure/events.hpp"
#include "worker/train/step.hpp"

namespace rackmark::worker {

struct LoopOptions {
  std::int64_t warmup = 10;
  std::optional<std::int64_t> measured;  // exactly one of these two
  std::optional<double> measured_seconds;
  // Ranks that exchange gradients must make equally many steps: the first whose time is up ends the
  // window for all. Independent ranks end on their own.
  bool end_together = true;
  bool has_loss = true;  // false: the records' losses mean nothing
};

struct LoopHooks {
  std::function<void(const std::string& phase, std::optional<std::int64_t> steps_planned)> phase;
  std::function<void(const StepRecord& record, bool measured)> step;  // after each
  std::function<void()> check;  // before each; throws to end the run
  // Returns when the plan holds the result of the steps so far; what that waited for. May be empty.
  std::function<ExchangeWaits()> settle;
};

struct Window {
  std::int64_t steps = 0;
  std::int64_t start_ns = 0, end_ns = 0;
  std::optional<double> first_loss, final_loss;  // of the measured steps
};

// Throws Failure(nan_loss) naming phase and step as soon as a loss is not finite, and
// Failure(no_valid_steps) when not one step was measured.
Window run_loop(const LoopOptions& options, const TrainingStep& step, Communicator& ranks,
                const Clock& clock, const LoopHooks& hooks);

}  // namespace rackmark::worker
