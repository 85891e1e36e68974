// Messages with something to do when they are finished. Used by one thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "worker/collective/messages.hpp"

namespace rackmark::worker {

class Post {
 public:
  using Then = std::function<void()>;
  explicit Post(std::unique_ptr<Messages> messages) : messages_(std::move(messages)) {}

  void send(std::int64_t to, int tag, std::span<const std::byte> bytes, Then then) {
    then_[messages_->send(to, tag, bytes)] = std::move(then);
  }
  void receive(std::int64_t from, int tag, std::span<std::byte> bytes, Then then) {
    then_[messages_->receive(from, tag, bytes)] = std::move(then);
  }
  // Does what follows the messages finished since the last call; false: there was none.
  bool progress() {
    std::vector<Then> due;  // taken out first: what they start may get the same tickets
    for (const Messages::Ticket ticket : messages_->progress()) {
      due.push_back(std::move(then_.extract(ticket).mapped()));
    }
    for (const Then& then : due) then();
    return !due.empty();
  }
  bool idle() const { return then_.empty(); }  // nothing under way

 private:
  std::unique_ptr<Messages> messages_;
  std::unordered_map<Messages::Ticket, Then> then_;
};

// How long to sleep between two looks at messages when nothing happens: short at first, so that an
// answer is not kept waiting, then longer, so that computing keeps its core.
class Backoff {
 public:
  void reset() { nap_ = kShortest; }
  std::chrono::microseconds next() {
    const auto nap = nap_;
    nap_ = std::min(2 * nap_, kLongest);
    return nap;
  }

 private:
  static constexpr std::chrono::microseconds kShortest{20}, kLongest{500};
  std::chrono::microseconds nap_ = kShortest;
};

}  // namespace rackmark::worker
