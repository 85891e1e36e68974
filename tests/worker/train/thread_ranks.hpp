// A small net on the plain backend, and ranks that are threads of one process.
#pragma once

#include <algorithm>
#include <barrier>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/collective/gradient_exchange.hpp"

namespace rackmark::worker {

inline constexpr int kBatch = 3, kSize = 8, kClasses = 5;
inline constexpr SgdStep kSgd{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3};
inline SgdSchedule always(const SgdStep& sgd) {
  return [sgd](std::int64_t) { return sgd; };
}

inline Net small_net() {
  Net net("small", kSize, kClasses);
  Node x = net.conv2d(net.input(), "conv1",
                      {.out = 6, .kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1});
  x = net.relu(net.batch_norm(x, "bn1"));
  x = net.conv2d(x, "conv2",
                 {.out = 8, .kernel_h = 3, .kernel_w = 3, .stride = 2, .pad_h = 1, .pad_w = 1});
  x = net.relu(net.batch_norm(x, "bn2"));
  x = net.dropout(net.flatten(net.adaptive_average_pool(x, {.out = 1})), 0.3);
  net.loss(net.linear(x, "fc", {.out = kClasses}));
  return net;
}

// `shards`: that it sees in turn, from `shard` on.
inline std::unique_ptr<TrainPlan> make_plan(std::int64_t shard = 0, std::int64_t shards = 1) {
  auto plan = load_backend("reference")
                  ->compile(small_net(), {.batch = kBatch,
                                          .threads = 1,
                                          .masks = {.first_shard = shard, .shards = shards}});
  for (std::size_t p = 0; p < plan->net().parameters().size(); ++p) {
    plan->write_parameter(static_cast<int>(p), initial_value(plan->net().parameters()[p], 1));
  }
  return plan;
}

inline std::vector<std::vector<double>> parameters(const TrainPlan& plan) {
  std::vector<std::vector<double>> all;
  for (std::size_t p = 0; p < plan.net().parameters().size(); ++p) {
    all.push_back(plan.read_parameter(static_cast<int>(p)));
  }
  return all;
}

// Ranks as threads of one process.
class ThreadRanks {
 public:
  explicit ThreadRanks(std::size_t count)
      : spans_(count), turn_(static_cast<std::ptrdiff_t>(count)) {}
  std::unique_ptr<Communicator> rank(std::size_t r);

 private:
  class Rank;
  std::vector<std::span<float>> spans_;
  std::vector<float> sum_;
  std::vector<std::string> texts_{spans_.size()};
  std::vector<std::span<const std::uint16_t>> halves_{spans_.size()};
  std::shared_ptr<Mailboxes> mailboxes_ = make_mailboxes();
  std::barrier<> turn_;
};

class ThreadRanks::Rank : public Communicator {
 public:
  Rank(ThreadRanks& all, std::size_t rank) : all_(all), rank_(rank) {}
  std::int64_t rank() const override { return static_cast<std::int64_t>(rank_); }
  std::int64_t size() const override { return static_cast<std::int64_t>(all_.spans_.size()); }
  void barrier() override { all_.turn_.arrive_and_wait(); }
  void all_reduce_sum(std::span<float> values) override {
    all_.spans_[rank_] = values;
    barrier();
    if (rank_ == 0) {
      all_.sum_.assign(values.begin(), values.end());
      for (std::size_t r = 1; r < all_.spans_.size(); ++r) {
        for (std::size_t i = 0; i < values.size(); ++i) all_.sum_[i] += all_.spans_[r][i];
      }
    }
    barrier();
    std::copy(all_.sum_.begin(), all_.sum_.end(), values.begin());
    barrier();
  }
  double all_reduce_max(double value) override { return value; }
  void broadcast(std::span<float>, std::int64_t) override {}
  std::vector<std::string> all_gather(const std::string& text) override {
    all_.texts_[rank_] = text;
    barrier();
    auto texts = all_.texts_;
    barrier();
    return texts;
  }
  void all_to_all(std::span<const std::uint16_t> send, std::span<std::uint16_t> receive) override {
    all_.halves_[rank_] = send;
    barrier();
    const std::size_t each = send.size() / all_.halves_.size();
    for (std::size_t r = 0; r < all_.halves_.size(); ++r) {
      std::copy_n(all_.halves_[r].begin() + static_cast<std::ptrdiff_t>(rank_ * each), each,
                  receive.begin() + static_cast<std::ptrdiff_t>(r * each));
    }
    barrier();
  }
  void all_gather(std::span<const std::uint16_t> mine, std::span<std::uint16_t> all) override {
    all_.halves_[rank_] = mine;
    barrier();
    for (std::size_t r = 0; r < all_.halves_.size(); ++r) {
      std::copy_n(all_.halves_[r].begin(), mine.size(),
                  all.begin() + static_cast<std::ptrdiff_t>(r * mine.size()));
    }
    barrier();
  }
  std::unique_ptr<Communicator> first_ranks(std::int64_t) override { return nullptr; }
  std::unique_ptr<Messages> open_messages() override {
    return open_mailbox(all_.mailboxes_, rank());
  }
  void finish() override {}
  void abort(int) override {}

 private:
  ThreadRanks& all_;
  std::size_t rank_;
};

inline std::unique_ptr<Communicator> ThreadRanks::rank(std::size_t r) {
  return std::make_unique<Rank>(*this, r);
}

}  // namespace rackmark::worker
