// The parameter server over messages between ranks.
//
// Variables are cut into shards, each kept by one server. As soon as the gradients of a shard are
// final, while the backward pass of earlier layers still runs, the worker pushes them; the server
// does the SGD step and answers with the new variables, which the next forward pass waits for layer
// by layer. What that forward pass needs first goes first, in both directions, and no more than two
// messages are under way between two ends, so that it does not queue behind what can wait.
//
// One thread of every process does all of its messages and its server's arithmetic; it sleeps
// between two looks at messages when nothing happens, so that it takes no core from computing.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/collective/communicator.hpp"
#include "worker/collective/gradient_exchange.hpp"
#include "worker/collective/variable_server.hpp"

namespace rackmark::worker {

struct ServerSetup {
  std::int64_t workers = 1;  // ranks below this one; dedicated servers are the ranks from it on
  ParameterServerSpec spec;
  SgdSchedule schedule;  // the servers', equal on all ranks
};

// Collective over all ranks: the workers call this, dedicated servers make a VariableService.
// Servers start with the weights that rank 0's plan has now. SgdStep in begin_step() is not used.
std::unique_ptr<GradientExchange> make_parameter_server(TrainPlan& plan, Communicator& ranks,
                                                        const ServerSetup& setup);

// A dedicated server: all of it happens in turn(), on the caller's thread.
class VariableService {
 public:
  virtual ~VariableService() = default;
  virtual bool turn() = 0;                 // false: nothing to do at the moment
  virtual bool over() const = 0;           // all workers have left
  virtual std::int64_t steps() const = 0;  // that every worker has done
};
std::unique_ptr<VariableService> make_variable_service(Communicator& ranks,
                                                       const ServerSetup& setup);

// "parameter_server (4 workers, 2 dedicated servers, bounded 3, bf16 wire)"
std::string server_label(const ServerSetup& setup);

}  // namespace rackmark::worker
