#include "worker/train/step.hpp"

#include <algorithm>
#include <utility>

namespace rackmark::worker {

namespace {

const InputBatch& timed_next(BatchSource& input, const Clock& clock, StepRecord& record) {
  const std::int64_t start_ns = clock.monotonic_ns();
  const InputBatch& batch = input.next();
  record.input_wait_ms += static_cast<double>(clock.monotonic_ns() - start_ns) * 1e-6;
  return batch;
}

TrainPlan::ParameterNeeded wait_in(GradientExchange& exchange) {
  return [&exchange](int parameter) { exchange.needed(parameter); };
}

void finish(GradientExchange& exchange, StepRecord& record) {
  const ExchangeWaits waits = exchange.finish_step();
  record.exposed_communication_ms = waits.communication_ms;
  record.server_wait_ms = waits.server_ms;
}

std::vector<std::vector<double>> read_running(const TrainPlan& plan) {
  std::vector<std::vector<double>> values;
  for (std::size_t s = 0; s < plan.net().running_statistics().size(); ++s) {
    values.push_back(plan.read_running(static_cast<int>(s)));
  }
  return values;
}

void write_running(TrainPlan& plan, const std::vector<std::vector<double>>& values) {
  for (std::size_t s = 0; s < values.size(); ++s) {
    const std::vector<float> floats(values[s].begin(), values[s].end());
    plan.write_running(static_cast<int>(s), floats);
  }
}

}  // namespace

TrainingStep make_step(TrainPlan& plan, BatchSource& input, GradientExchange& exchange,
                       SgdSchedule sgd, const Clock& clock) {
  return [&plan, &input, &exchange, sgd = std::move(sgd), &clock, t = std::int64_t{0}]() mutable {
    StepRecord record;
    const Batch batch = batch_of(timed_next(input, clock, record));
    if (exchange.leaves_steps_to_plan()) {
      const TrainPlan::StepOutcome outcome = plan.step(batch, sgd(t++));
      record.loss = outcome.loss;
      record.exposed_communication_ms = outcome.exposed_communication_ms;
      return record;
    }
    record.loss = plan.forward(batch, wait_in(exchange));
    exchange.begin_step(sgd(t++));
    plan.backward([&exchange](int parameter) { exchange.ready(parameter); });
    finish(exchange, record);
    return record;
  };
}

TrainingStep make_micro_batch_step(TrainPlan& plan, std::vector<BatchSource*> inputs,
                                   GradientExchange& exchange, SgdSchedule sgd,
                                   const Clock& clock) {
  return [&plan, inputs = std::move(inputs), &exchange, sgd = std::move(sgd), &clock,
          sum = std::vector<float>(), t = std::int64_t{0}]() mutable {
    StepRecord record;
    const auto gradients = plan.gradient_block();
    std::vector<std::vector<double>> running;
    for (std::size_t m = 0; m < inputs.size(); ++m) {
      const Batch batch = batch_of(timed_next(*inputs[m], clock, record));
      record.loss += plan.forward(batch, wait_in(exchange));
      if (m == 0) running = read_running(plan);
      plan.backward();
      if (m == 0) sum.assign(gradients.begin(), gradients.end());
      if (m > 0) {
        std::transform(sum.begin(), sum.end(), gradients.begin(), sum.begin(), std::plus<>());
      }
    }
    write_running(plan, running);
    record.loss /= static_cast<double>(inputs.size());
    const float share = 1.0F / static_cast<float>(inputs.size());
    std::transform(sum.begin(), sum.end(), gradients.begin(),
                   [share](float value) { return value * share; });
    exchange.begin_step(sgd(t++));
    for (std::size_t p = 0; p < plan.net().parameters().size(); ++p) {
      exchange.ready(static_cast<int>(p));
    }
    finish(exchange, record);
    return record;
  };
}

}  // namespace rackmark::worker
