#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "worker/collective/messages.hpp"

namespace rackmark::worker {

// What waits for its counterpart. A message is copied once, when both sides are there.
class Mailboxes {
 public:
  using Route = std::tuple<std::int64_t, std::int64_t, int>;  // from, to, tag

  void send(const Route& route, Messages::Ticket ticket, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    waiting_[route].sent.push_back({ticket, bytes});
    match(route);
  }
  void receive(const Route& route, Messages::Ticket ticket, std::span<std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    waiting_[route].wanted.push_back({ticket, bytes});
    match(route);
  }
  std::vector<Messages::Ticket> take_finished(std::int64_t rank) {
    const std::lock_guard lock(mutex_);
    return std::exchange(finished_[rank], {});
  }

 private:
  struct Sent {
    Messages::Ticket ticket;
    std::span<const std::byte> bytes;
  };
  struct Wanted {
    Messages::Ticket ticket;
    std::span<std::byte> bytes;
  };
  struct Waiting {
    std::deque<Sent> sent;
    std::deque<Wanted> wanted;
  };

  void match(const Route& route) {
    Waiting& waiting = waiting_[route];
    while (!waiting.sent.empty() && !waiting.wanted.empty()) {
      const Sent sent = waiting.sent.front();
      const Wanted wanted = waiting.wanted.front();
      if (sent.bytes.size() != wanted.bytes.size()) {
        throw std::logic_error("a message of " + std::to_string(sent.bytes.size()) +
                               " bytes meets a receiver of " + std::to_string(wanted.bytes.size()));
      }
      if (!sent.bytes.empty()) {
        std::memcpy(wanted.bytes.data(), sent.bytes.data(), sent.bytes.size());
      }
      finished_[std::get<0>(route)].push_back(sent.ticket);
      finished_[std::get<1>(route)].push_back(wanted.ticket);
      waiting.sent.pop_front();
      waiting.wanted.pop_front();
    }
  }

  std::mutex mutex_;
  std::map<Route, Waiting> waiting_;
  std::map<std::int64_t, std::vector<Messages::Ticket>> finished_;  // by rank
};

namespace {

class Mailbox : public Messages {
 public:
  Mailbox(std::shared_ptr<Mailboxes> mailboxes, std::int64_t rank)
      : mailboxes_(std::move(mailboxes)), rank_(rank) {}
  Ticket send(std::int64_t to, int tag, std::span<const std::byte> bytes) override {
    mailboxes_->send({rank_, to, tag}, ++last_, bytes);
    return last_;
  }
  Ticket receive(std::int64_t from, int tag, std::span<std::byte> bytes) override {
    mailboxes_->receive({from, rank_, tag}, ++last_, bytes);
    return last_;
  }
  std::vector<Ticket> progress() override { return mailboxes_->take_finished(rank_); }

 private:
  std::shared_ptr<Mailboxes> mailboxes_;
  const std::int64_t rank_;
  Ticket last_ = 0;
};

}  // namespace

std::shared_ptr<Mailboxes> make_mailboxes() { return std::make_shared<Mailboxes>(); }

std::unique_ptr<Messages> open_mailbox(std::shared_ptr<Mailboxes> mailboxes, std::int64_t rank) {
  return std::make_unique<Mailbox>(std::move(mailboxes), rank);
}

}  // namespace rackmark::worker
