// From finished gradients to updated parameters: the strategies of `variable_update`.
//
// One step is needed(p) from inside TrainPlan::forward(), begin_step(), ready(p) for every
// parameter from inside TrainPlan::backward(), then finish_step(). Parameters follow the mean of
// the gradients over ranks, always; the plan's gradient block may hold their sum afterwards. Used
// by the training thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/domain/spec.hpp"
#include "worker/backend/backend.hpp"
#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

// The optimizer's numbers for step t, counted from 0 over warm-up and measured steps.
using SgdSchedule = std::function<SgdStep(std::int64_t step)>;

struct ExchangeWaits {  // of the training thread, while it did not compute
  double communication_ms = 0;
  double server_ms = 0;
};

class GradientExchange {
 public:
  virtual ~GradientExchange() = default;
  virtual std::string label() const = 0;  // what the results say: "all_reduce", ...
  // Which way gradients of devices take between ranks, and why; "" where none do.
  virtual std::string way() const { return ""; }
  // True: the plan makes its steps by itself (TrainPlan::step), alone or with a group of devices.
  virtual bool leaves_steps_to_plan() const { return false; }
  virtual void begin_step(const SgdStep& step) { step_ = step; }
  virtual void ready(int /*parameter*/) {}
  // Ends the step. Afterwards the plan holds the new parameters, or needed() waits for them.
  // Returns all waits since the end of the step before.
  virtual ExchangeWaits finish_step() = 0;
  // Returns when the plan holds the newest values of this parameter.
  virtual void needed(int /*parameter*/) {}
  // Returns when that is so for all of them; the waits since the end of the last step.
  virtual ExchangeWaits settle() { return {}; }
  // This rank makes no more steps: others must not wait for it. After settle().
  virtual void leave() {}
  // How often the variables of a shard came so many steps behind (index) this worker; see
  // AnswerHeader. All steps of the run; empty without a server. After leave().
  virtual std::vector<std::int64_t> staleness() const { return {}; }

 protected:
  SgdStep step_;  // of the step in progress
};

// No exchange: every rank trains alone. Also the exchange of a single rank.
std::unique_ptr<GradientExchange> make_independent(TrainPlan& plan, std::string label);

struct AllReduceOptions {
  std::int64_t bucket_bytes = 26214400;
  bool overlap = true;  // false: everything is exchanged after backward has ended
  // kFp32, or kFp16 and kBf16 (see SixteenBitMean in wire.hpp).
  Precision wire = Precision::kFp32;
};
// Buckets are contiguous ranges of gradient_block(), exchanged in order as soon as their last
// gradient is ready: by the plans' own devices where all of them can (fp32 wire only), else by a
// thread that uses `ranks`.
std::unique_ptr<GradientExchange> make_all_reduce(TrainPlan& plan, Communicator& ranks,
                                                  const AllReduceOptions& options);

// A contiguous range of the gradient block and the parameters in it.
struct Bucket {
  TrainPlan::Extent range;
  std::vector<int> parameters;
};
// Ranges in block order, which is the order in which backward finishes. Each holds at most
// `max_bytes` or one parameter; the last is at most 1 MiB (or one parameter) when there are
// several, because nothing is left to hide its exchange behind.
std::vector<Bucket> make_buckets(const TrainPlan& plan, std::int64_t max_bytes);

}  // namespace rackmark::worker
