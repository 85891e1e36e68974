// What a parameter server knows and decides, without a transport: variables in shards, the SGD step
// on them, and when which worker may have them. Used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/domain/spec.hpp"
#include "worker/collective/gradient_exchange.hpp"

namespace rackmark::worker {

// A step is one gradient of one worker for one shard.
//   sync     waits for the gradients of all workers, does one SGD step with their mean (added in
//   the
//            order of workers), then answers everybody.
//   async    does an SGD step with each gradient as it comes, and answers its sender.
//   bounded  as async, but a worker that has done more than `staleness` steps more than the slowest
//            has to wait for its answer.
// The learning rate is that of the sender's step.
struct ServerRules {
  std::int64_t workers = 1;
  Consistency consistency = Consistency::kSync;
  std::int64_t staleness = 0;  // bounded only
  Precision wire = Precision::kFp32;
  SgdSchedule schedule;
  std::function<std::int64_t()> now_ns;  // any clock that never goes back
};

// Goes before the variables in every answer, in the sender's byte order.
struct AnswerHeader {
  // Steps that the slowest worker (of those that have not left) is behind the receiver, as far as
  // these variables are concerned.
  std::int64_t staleness = 0;
  // From the arrival of the receiver's gradient to the answer: waiting for others, and the update.
  std::int64_t held_ns = 0;
};
std::size_t answer_bytes(Precision wire, std::int64_t count);

class VariableServer {
 public:
  VariableServer(ServerRules rules, std::vector<std::int64_t> shard_floats);
  VariableServer(const VariableServer&) = delete;
  VariableServer& operator=(const VariableServer&) = delete;

  std::size_t shards() const { return shards_.size(); }
  std::span<float> weights(std::size_t shard) { return shards_[shard].weights; }

  // Where the next gradient of `worker` for `shard` is to be put, in wire format. A worker sends
  // the next one only when it has its answer to this one.
  std::span<std::byte> slot(std::size_t shard, std::int64_t worker);
  void gradient_arrived(std::size_t shard, std::int64_t worker);
  // No more gradients of this worker; nobody waits for it from now on.
  void worker_left(std::int64_t worker);
  bool all_left() const;
  // Steps that every worker has done, on the shard that is furthest behind.
  std::int64_t steps_of_all() const;

  struct Answer {
    std::size_t shard = 0;
    std::int64_t worker = 0;
    std::vector<std::byte> bytes;  // header, then variables
  };
  std::vector<Answer> take_answers();  // due since the last call

 private:
  struct Waiting {
    std::int64_t worker = 0, since_ns = 0;
  };
  struct Variables {
    std::vector<float> weights, velocity, sum;  // sum: of gradients, where they must be added
    std::vector<std::vector<std::byte>> slots;  // by worker
    std::vector<std::int64_t> steps;            // done, by worker
    std::vector<Waiting> waiting;               // for an answer
  };

  void step_with_mean(Variables& shard);
  void step_with(Variables& shard, std::int64_t worker);
  std::span<const float> gradient_of(Variables& shard, std::size_t worker);
  void update(Variables& shard, std::span<const float> gradient, std::int64_t step);
  void release(std::size_t index);
  std::int64_t behind(const Variables& shard, std::int64_t worker) const;

  const ServerRules rules_;
  std::vector<Variables> shards_;
  std::vector<bool> left_;  // by worker
  std::vector<Answer> due_;
};

}  // namespace rackmark::worker
