// The colocated parameter server: a thread of this process that owns the variables.
//
// Variables are cut into shards. A shard is pushed as soon as all its gradients are final, while
// the backward pass of earlier layers still runs; the server then does the SGD step on its own copy
// of the weights, with its own momentum; the worker pulls the new weights when all shards are done.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "common/clock.hpp"
#include "worker/collective/gradient_exchange.hpp"

namespace rackmark::worker {

namespace {

// What the server holds of one shard; nobody else touches weights and momentum.
struct Shard {
  std::vector<float> weights, momentum, gradients;
  bool started = false;  // momentum starts as the first gradient
};

// g += decay * w; v = keep * v + g; w -= rate * v. Inlined into one function for any CPU and one
// for those with fused multiply-add, where the backends' own updates round the same way.
inline __attribute__((always_inline)) void sgd(Shard& shard, float rate, float keep, float decay) {
  float* __restrict weights = shard.weights.data();
  float* __restrict momentum = shard.momentum.data();
  const float* __restrict gradients = shard.gradients.data();
  for (std::size_t i = 0; i < shard.weights.size(); ++i) {
    momentum[i] = keep * momentum[i] + (gradients[i] + decay * weights[i]);
    weights[i] -= rate * momentum[i];
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void sgd_fused(Shard& shard, float rate, float keep,
                                                   float decay) {
  sgd(shard, rate, keep, decay);
}
bool has_fused() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
void sgd_fused(Shard& shard, float rate, float keep, float decay) { sgd(shard, rate, keep, decay); }
bool has_fused() { return false; }
#endif

void apply(Shard& shard, const SgdStep& step) {
  const auto rate = static_cast<float>(step.learning_rate);
  const auto keep = shard.started ? static_cast<float>(step.momentum) : 0.0F;
  const auto decay = static_cast<float>(step.weight_decay);
  (has_fused() ? sgd_fused : sgd)(shard, rate, keep, decay);
  shard.started = true;
}

class ColocatedServer : public GradientExchange {
 public:
  ColocatedServer(TrainPlan& plan, std::int64_t shard_bytes)
      : plan_(plan),
        ranges_(make_buckets(plan, shard_bytes)),
        shards_(ranges_.size()),
        missing_(ranges_.size()),
        shard_of_(plan.net().parameters().size()) {
    for (std::size_t s = 0; s < ranges_.size(); ++s) {
      const auto weights = part(plan_.parameter_block(), s);
      shards_[s].weights.assign(weights.begin(), weights.end());
      shards_[s].momentum.resize(weights.size());
      shards_[s].gradients.resize(weights.size());
      for (const int parameter : ranges_[s].parameters) {
        shard_of_[static_cast<std::size_t>(parameter)] = s;
      }
    }
    served_ = ranges_.size();
    thread_ = std::thread([this] { serve(); });
  }
  ColocatedServer(const ColocatedServer&) = delete;
  ColocatedServer& operator=(const ColocatedServer&) = delete;
  ~ColocatedServer() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::string label() const override { return "parameter_server (1 worker, colocated server)"; }

  void begin_step(const SgdStep& step) override {
    const std::lock_guard lock(mutex_);
    for (std::size_t s = 0; s < ranges_.size(); ++s) missing_[s] = ranges_[s].parameters.size();
    pushed_.clear();
    step_ = step;
    served_ = 0;
  }

  // Push: the copy is made by the worker, as a send would.
  void ready(int parameter) override {
    const std::size_t s = shard_of_[static_cast<std::size_t>(parameter)];
    if (--missing_[s] != 0) return;
    const auto gradients = part(plan_.gradient_block(), s);
    std::copy(gradients.begin(), gradients.end(), shards_[s].gradients.begin());
    const std::lock_guard lock(mutex_);
    pushed_.push_back(s);
    changed_.notify_all();
  }

  ExchangeWaits finish_step() override {
    const SystemClock clock;
    const std::int64_t start_ns = clock.monotonic_ns();
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return served_ == ranges_.size(); });
    }
    for (std::size_t s = 0; s < ranges_.size(); ++s) {  // pull
      const auto weights = part(plan_.parameter_block(), s);
      std::copy(shards_[s].weights.begin(), shards_[s].weights.end(), weights.begin());
    }
    return {.server_ms = static_cast<double>(clock.monotonic_ns() - start_ns) * 1e-6};
  }

 private:
  std::span<float> part(std::span<float> block, std::size_t s) const {
    return block.subspan(static_cast<std::size_t>(ranges_[s].range.offset),
                         static_cast<std::size_t>(ranges_[s].range.count));
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !pushed_.empty(); });
      if (stopping_) return;
      const std::size_t s = pushed_.back();
      pushed_.pop_back();
      const SgdStep step = step_;
      lock.unlock();
      apply(shards_[s], step);
      lock.lock();
      if (++served_ == ranges_.size()) changed_.notify_all();
    }
  }

  TrainPlan& plan_;
  const std::vector<Bucket> ranges_;
  std::vector<Shard> shards_;
  std::vector<std::size_t> missing_;  // training thread only
  std::vector<std::size_t> shard_of_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> pushed_;  // shards whose gradients are in
  std::size_t served_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<GradientExchange> make_colocated_server(TrainPlan& plan, std::int64_t shard_bytes) {
  return std::make_unique<ColocatedServer>(plan, shard_bytes);
}

}  // namespace rackmark::worker
