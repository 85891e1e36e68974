#include "worker/collective/variable_server.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "worker/collective/kernels/exchange_kernels.hpp"
#include "worker/collective/wire.hpp"

namespace rackmark::worker {

std::size_t answer_bytes(Precision wire, std::int64_t count) {
  return sizeof(AnswerHeader) + wire_bytes(wire, count);
}

VariableServer::VariableServer(ServerRules rules, std::vector<std::int64_t> shard_floats)
    : rules_(std::move(rules)), left_(static_cast<std::size_t>(rules_.workers)) {
  const auto workers = static_cast<std::size_t>(rules_.workers);
  for (const std::int64_t count : shard_floats) {
    const auto floats = static_cast<std::size_t>(count);
    Variables& shard = shards_.emplace_back();
    shard.weights.resize(floats);
    shard.velocity.resize(floats);
    shard.slots.assign(workers, std::vector<std::byte>(wire_bytes(rules_.wire, count)));
    shard.steps.resize(workers);
  }
}

std::span<std::byte> VariableServer::slot(std::size_t shard, std::int64_t worker) {
  return shards_[shard].slots[static_cast<std::size_t>(worker)];
}

void VariableServer::gradient_arrived(std::size_t index, std::int64_t worker) {
  Variables& shard = shards_[index];
  shard.waiting.push_back({worker, rules_.now_ns()});
  if (rules_.consistency != Consistency::kSync) {
    step_with(shard, worker);
  } else if (static_cast<std::int64_t>(shard.waiting.size()) == rules_.workers) {
    step_with_mean(shard);
  } else {
    return;
  }
  release(index);
}

void VariableServer::worker_left(std::int64_t worker) {
  left_[static_cast<std::size_t>(worker)] = true;
  if (rules_.consistency == Consistency::kSync) return;  // all leave after the same step
  for (std::size_t index = 0; index < shards_.size(); ++index) release(index);
}

bool VariableServer::all_left() const {
  return std::all_of(left_.begin(), left_.end(), [](bool left) { return left; });
}

std::int64_t VariableServer::steps_of_all() const {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Variables& shard : shards_) {
    for (const std::int64_t steps : shard.steps) least = std::min(least, steps);
  }
  return shards_.empty() ? 0 : least;
}

std::vector<VariableServer::Answer> VariableServer::take_answers() {
  return std::exchange(due_, {});
}

// In fp32 it is where it has arrived.
std::span<const float> VariableServer::gradient_of(Variables& shard, std::size_t worker) {
  if (rules_.wire == Precision::kFp32) {
    return {reinterpret_cast<const float*>(shard.slots[worker].data()), shard.weights.size()};
  }
  shard.sum.resize(shard.weights.size());
  from_wire(rules_.wire, shard.slots[worker].data(), shard.sum);
  return shard.sum;
}

void VariableServer::step_with_mean(Variables& shard) {
  if (rules_.workers == 1) return step_with(shard, 0);
  shard.sum.resize(shard.weights.size());
  from_wire(rules_.wire, shard.slots[0].data(), shard.sum);
  for (std::size_t worker = 1; worker < shard.slots.size(); ++worker) {
    add_from_wire(rules_.wire, shard.slots[worker].data(), shard.sum);
  }
  exchange_kernels().scale(shard.sum.data(), 1.0F / static_cast<float>(rules_.workers),
                           static_cast<std::int64_t>(shard.sum.size()));
  update(shard, shard.sum, shard.steps[0]);
  for (std::int64_t& steps : shard.steps) ++steps;
}

void VariableServer::step_with(Variables& shard, std::int64_t worker) {
  const auto w = static_cast<std::size_t>(worker);
  update(shard, gradient_of(shard, w), shard.steps[w]++);
}

void VariableServer::update(Variables& shard, std::span<const float> gradient, std::int64_t step) {
  const SgdStep sgd = rules_.schedule(step);
  exchange_kernels().sgd(shard.weights.data(), gradient.data(), shard.velocity.data(),
                         static_cast<std::int64_t>(shard.weights.size()),
                         static_cast<float>(sgd.learning_rate), static_cast<float>(sgd.momentum),
                         static_cast<float>(sgd.weight_decay));
}

// How far the slowest of the workers that are still there is behind `worker`.
std::int64_t VariableServer::behind(const Variables& shard, std::int64_t worker) const {
  const std::int64_t own = shard.steps[static_cast<std::size_t>(worker)];
  std::int64_t least = own;
  for (std::size_t w = 0; w < shard.steps.size(); ++w) {
    if (!left_[w]) least = std::min(least, shard.steps[w]);
  }
  return own - least;
}

// Answers those who may go on.
void VariableServer::release(std::size_t index) {
  Variables& shard = shards_[index];
  const auto may_go = [&](const Waiting& one) {
    return rules_.consistency != Consistency::kBounded ||
           behind(shard, one.worker) <= rules_.staleness;
  };
  const std::size_t payload =
      wire_bytes(rules_.wire, static_cast<std::int64_t>(shard.weights.size()));
  std::optional<std::size_t> made;  // the first of these answers, whose variables all get
  for (const Waiting& one : shard.waiting) {
    if (!may_go(one)) continue;
    const AnswerHeader header{.staleness = behind(shard, one.worker),
                              .held_ns = rules_.now_ns() - one.since_ns};
    std::vector<std::byte> bytes(sizeof header + payload);
    std::memcpy(bytes.data(), &header, sizeof header);
    if (made) {
      std::memcpy(bytes.data() + sizeof header, due_[*made].bytes.data() + sizeof header, payload);
    } else {
      to_wire(rules_.wire, shard.weights, bytes.data() + sizeof header);
      made = due_.size();
    }
    due_.push_back({index, one.worker, std::move(bytes)});
  }
  std::erase_if(shard.waiting, may_go);
}

}  // namespace rackmark::worker
