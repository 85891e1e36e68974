// One training step of a rank: input, forward, backward, exchange, update.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "common/clock.hpp"
#include "worker/backend/backend.hpp"
#include "worker/collective/gradient_exchange.hpp"
#include "worker/input/batch_source.hpp"
#include "worker/measure/events.hpp"

namespace rackmark::worker {

// Fills everything of the record but `ms`, which the loop takes.
using TrainingStep = std::function<StepRecord()>;

// All arguments but the schedule must outlive the step.
TrainingStep make_step(TrainPlan& plan, BatchSource& input, GradientExchange& exchange,
                       SgdSchedule sgd, const Clock& clock);

// A test option: one rank plays the ranks of a group. Micro-batch m comes from inputs[m]; gradients
// are added in the order of ranks and averaged, running statistics are those of micro-batch 0; the
// loss is the mean. Gives the parameters that inputs.size() ranks with all-reduce would have.
TrainingStep make_micro_batch_step(TrainPlan& plan, std::vector<BatchSource*> inputs,
                                   GradientExchange& exchange, SgdSchedule sgd, const Clock& clock);

}  // namespace rackmark::worker
