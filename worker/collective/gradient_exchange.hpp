// From finished gradients to updated parameters: the strategies of `variable_update`.
//
// One step is begin_step(), ready(p) for every parameter from inside TrainPlan::backward(), then
// finish_step(). Gradients are averaged over ranks, always. Used by the training thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/collective/communicator.hpp"

namespace rackmark::worker {

struct ExchangeWaits {  // of the training thread, after backward had ended
  double communication_ms = 0;
  double server_ms = 0;
};

class GradientExchange {
 public:
  virtual ~GradientExchange() = default;
  virtual std::string label() const = 0;  // what the results say: "all_reduce", ...
  virtual void begin_step(const SgdStep& step) { step_ = step; }
  virtual void ready(int /*parameter*/) {}
  // Waits for the exchange and applies the optimiser; afterwards the plan holds the new parameters.
  virtual ExchangeWaits finish_step() = 0;

 protected:
  SgdStep step_;  // of the step in progress
};

// No exchange: every rank trains alone. Also the exchange of a single rank.
std::unique_ptr<GradientExchange> make_independent(TrainPlan& plan, std::string label);

struct AllReduceOptions {
  std::int64_t bucket_bytes = 26214400;
  bool overlap = true;  // false: everything is exchanged after backward has ended
};
// Buckets are contiguous ranges of gradient_block(), exchanged in order by a thread of its own as
// soon as their last gradient is ready.
std::unique_ptr<GradientExchange> make_all_reduce(TrainPlan& plan, Communicator& ranks,
                                                  const AllReduceOptions& options);

// A server inside this process that owns the variables in shards: gradients are pushed, the server
// does the SGD step, weights are pulled back. One worker. The server starts from the plan's weights
// at this moment.
std::unique_ptr<GradientExchange> make_colocated_server(TrainPlan& plan, std::int64_t shard_bytes);

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
