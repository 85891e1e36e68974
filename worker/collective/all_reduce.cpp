#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "common/clock.hpp"
#include "common/json/described.hpp"
#include "worker/collective/gradient_exchange.hpp"
#include "worker/collective/wire.hpp"

namespace rackmark::worker {

namespace {

class Independent : public GradientExchange {
 public:
  Independent(TrainPlan& plan, std::string label) : plan_(plan), label_(std::move(label)) {}
  std::string label() const override { return label_; }
  bool leaves_steps_to_plan() const override { return true; }
  ExchangeWaits finish_step() override {
    plan_.update(step_);
    return {};
  }
  ExchangeWaits settle() override {
    plan_.finish();
    return {};
  }

 private:
  TrainPlan& plan_;
  std::string label_;
};

// Exchanged by the devices themselves, inside the plan's steps.
class DeviceAllReduce : public GradientExchange {
 public:
  DeviceAllReduce(TrainPlan& plan, Communicator& ranks, const std::string& group,
                  const AllReduceOptions& options)
      : plan_(plan) {
    TrainPlan::RankGroup joined{.name = group,
                                .rank = static_cast<int>(ranks.rank()),
                                .size = static_cast<int>(ranks.size()),
                                .overlap = options.overlap};
    for (const Bucket& bucket : make_buckets(plan, options.bucket_bytes)) {
      joined.buckets.push_back(bucket.range);
    }
    library_ = plan.join_group(joined);
  }
  std::string label() const override { return "all_reduce (" + library_ + ")"; }
  std::string way() const override { return library_ + ", by the devices themselves"; }
  bool leaves_steps_to_plan() const override { return true; }
  ExchangeWaits finish_step() override {
    throw std::logic_error("the plan makes its steps by itself");
  }
  ExchangeWaits settle() override {
    plan_.finish();
    return {};
  }

 private:
  TrainPlan& plan_;
  std::string library_;
};

// "all_reduce", "all_reduce (ring)", "all_reduce (bf16 wire)"
std::string all_reduce_label(const AllReduceOptions& options, const Communicator& ranks) {
  if (options.wire != Precision::kFp32) {
    return "all_reduce (" + json::enum_name(options.wire) + " wire)";
  }
  const std::string forced = ranks.forced_algorithm();
  return forced.empty() ? "all_reduce" : "all_reduce (" + forced + ")";
}

// The step that does with sums over n ranks what `step` does with their means, without a pass over
// all gradients that divides them. Momentum is then a sum as well, u = n v:
//   u = momentum u + sum + n weight_decay w;  w -= learning_rate / n u
SgdStep on_sums(SgdStep step, std::int64_t ranks) {
  const auto n = static_cast<double>(ranks);
  step.learning_rate /= n;
  step.weight_decay *= n;
  return step;
}

class AllReduce : public GradientExchange {
 public:
  AllReduce(TrainPlan& plan, Communicator& ranks, const AllReduceOptions& options,
            const std::string& why_not_devices)
      : plan_(plan),
        ranks_(ranks),
        options_(options),
        why_not_devices_(why_not_devices),
        sixteen_bits_(ranks, options.wire),
        gradients_(plan.gradient_block()),
        buckets_(make_buckets(plan, options.bucket_bytes)),
        missing_(buckets_.size()),
        bucket_of_(plan.net().parameters().size()) {
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      for (const int parameter : buckets_[b].parameters) {
        bucket_of_[static_cast<std::size_t>(parameter)] = b;
      }
    }
    exchanged_ = buckets_.size();
    thread_ = std::thread([this] { exchange_loop(); });
  }
  AllReduce(const AllReduce&) = delete;
  AllReduce& operator=(const AllReduce&) = delete;
  ~AllReduce() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::string label() const override { return all_reduce_label(options_, ranks_); }
  std::string way() const override { return "MPI, through the host: " + why_not_devices_; }

  void begin_step(const SgdStep& step) override {
    const std::lock_guard lock(mutex_);
    for (std::size_t b = 0; b < buckets_.size(); ++b) missing_[b] = buckets_[b].parameters.size();
    exchanged_ = 0;
    released_ = options_.overlap;
    step_ = step;
  }

  void ready(int parameter) override {
    const std::lock_guard lock(mutex_);
    if (--missing_[bucket_of_[static_cast<std::size_t>(parameter)]] == 0) changed_.notify_all();
  }

  ExchangeWaits finish_step() override {
    const SystemClock clock;
    const std::int64_t start_ns = clock.monotonic_ns();
    {
      std::unique_lock lock(mutex_);
      released_ = true;
      // A gradient that backward did not name is as final as it will be.
      std::fill(missing_.begin(), missing_.end(), 0);
      changed_.notify_all();
      changed_.wait(lock, [this] { return exchanged_ == buckets_.size() || error_; });
      if (error_) std::rethrow_exception(error_);
    }
    const double waited_ms = static_cast<double>(clock.monotonic_ns() - start_ns) * 1e-6;
    plan_.update(options_.wire == Precision::kFp32 ? on_sums(step_, ranks_.size()) : step_);
    return {.communication_ms = waited_ms};
  }
  ExchangeWaits settle() override {
    plan_.finish();
    return {};
  }

 private:
  // Buckets leave strictly in their own order: every rank must call in the same one.
  void exchange_loop() try {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] {
        return stopping_ ||
               (exchanged_ < buckets_.size() && released_ && missing_[exchanged_] == 0);
      });
      if (stopping_) return;
      const TrainPlan::Extent range = buckets_[exchanged_].range;
      lock.unlock();
      exchange(range);
      lock.lock();
      if (++exchanged_ == buckets_.size()) changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }

  void exchange(const TrainPlan::Extent& range) {
    const auto values = gradients_.subspan(static_cast<std::size_t>(range.offset),
                                           static_cast<std::size_t>(range.count));
    if (options_.wire != Precision::kFp32) return sixteen_bits_.mean(values);
    ranks_.all_reduce_sum(values);
  }

  TrainPlan& plan_;
  Communicator& ranks_;
  const AllReduceOptions options_;
  const std::string why_not_devices_;
  SixteenBitMean sixteen_bits_;  // thread_ only
  const std::span<float> gradients_;
  const std::vector<Bucket> buckets_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> missing_;  // gradients that each bucket still waits for
  std::vector<std::size_t> bucket_of_;
  std::size_t exchanged_ = 0;
  bool released_ = false, stopping_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

// "" where the devices of all ranks can exchange by themselves. Collective.
std::string why_not_devices(const TrainPlan& plan, Communicator& ranks, Precision wire) {
  if (wire != Precision::kFp32) {
    return "a " + json::enum_name(wire) + " wire is summed in fp32 there";
  }
  const auto able = ranks.all_gather(plan.joins_groups() ? "yes" : "no");
  const auto unable = std::find(able.begin(), able.end(), "no");
  if (unable == able.end()) return "";
  return "rank " + std::to_string(unable - able.begin()) +
         " found no library for groups of devices";
}

}  // namespace

std::unique_ptr<GradientExchange> make_independent(TrainPlan& plan, std::string label) {
  return std::make_unique<Independent>(plan, std::move(label));
}

std::unique_ptr<GradientExchange> make_all_reduce(TrainPlan& plan, Communicator& ranks,
                                                  const AllReduceOptions& options) {
  if (ranks.size() == 1) return make_independent(plan, "all_reduce");
  const std::string why_not = why_not_devices(plan, ranks, options.wire);
  if (!why_not.empty()) return std::make_unique<AllReduce>(plan, ranks, options, why_not);
  const auto group = ranks.all_gather(ranks.rank() == 0 ? plan.new_group() : "").front();
  return std::make_unique<DeviceAllReduce>(plan, ranks, group, options);
}

}  // namespace rackmark::worker
