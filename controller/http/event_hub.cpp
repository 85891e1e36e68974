#include "controller/http/event_hub.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <set>

namespace rackmark::http {
namespace asio = boost::asio;

Frame make_frame(std::optional<std::int64_t> id, std::optional<std::int64_t> job_id,
                 std::string_view event, std::string_view data) {
  std::string text;
  text.reserve(data.size() + 64);
  if (id) text += "id: " + std::to_string(*id) + "\n";
  text.append("event: ").append(event).append("\ndata: ").append(data).append("\n\n");
  return {id, job_id, std::make_shared<const std::string>(std::move(text))};
}

struct EventHub::State {
  asio::any_io_executor executor;
  Replay replay;
  HubLimits limits;
  std::set<Subscriber*> subscribers;
  std::uint64_t dropped = 0;
  bool closed = false;
};

class EventHub::Subscriber : public Stream {
 public:
  Subscriber(std::shared_ptr<State> state, Subscription wanted)
      : state_(std::move(state)), wanted_(wanted), changed_(state_->executor) {
    state_->subscribers.insert(this);
  }
  ~Subscriber() override { state_->subscribers.erase(this); }

  void take(const Frame& frame) {
    if (ended_ || (wanted_.job_id && frame.job_id != wanted_.job_id)) return;
    bytes_ += frame.text->size();
    queue_.push_back(frame);
    if (queue_.size() > state_->limits.queued_frames || bytes_ > state_->limits.queued_bytes) {
      ++state_->dropped;
      end();
    }
    changed_.cancel();
  }

  void end() {
    ended_ = true;
    queue_.clear();
    changed_.cancel();
  }

  asio::awaitable<std::optional<std::string>> next() override {
    if (!greeted_) {
      greeted_ = true;
      co_return wanted_.gap ? "retry: 1000\n\nevent: gap\ndata: {}\n\n" : "retry: 1000\n\n";
    }
    // Subscribed first, read second: what is committed meanwhile waits in the queue, and what is in
    // both is recognised by its id.
    if (wanted_.after) {
      auto rows = co_await state_->replay(*wanted_.after, wanted_.job_id);
      if (ended_) co_return std::nullopt;
      if (!rows.empty()) co_return replayed(rows);
      replayed_to_ = *wanted_.after;
      wanted_.after.reset();
    }
    for (;;) {
      if (ended_) co_return std::nullopt;
      if (std::string text = drain(); !text.empty()) co_return text;
      boost::system::error_code ec;
      changed_.expires_after(state_->limits.heartbeat);
      co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      if (!ec && queue_.empty() && !ended_) co_return "event: ping\ndata: {}\n\n";
    }
  }

 private:
  std::string replayed(const std::vector<Frame>& rows) {
    std::string text;
    for (const auto& row : rows) {
      text += *row.text;
      wanted_.after = row.id;
    }
    return text;
  }

  std::string drain() {
    std::string text;
    for (const auto& frame : queue_) {
      if (!frame.id || *frame.id > replayed_to_) text += *frame.text;
    }
    queue_.clear();
    bytes_ = 0;
    return text;
  }

  std::shared_ptr<State> state_;
  Subscription wanted_;
  asio::steady_timer changed_;
  std::deque<Frame> queue_;
  std::size_t bytes_ = 0;
  std::int64_t replayed_to_ = 0;
  bool greeted_ = false, ended_ = false;
};

EventHub::EventHub(asio::any_io_executor executor, Replay replay, HubLimits limits)
    : state_(new State{std::move(executor), std::move(replay), limits, {}, 0, false}) {}

EventHub::~EventHub() { close(); }

void EventHub::publish(const Frame& frame) {
  for (auto* subscriber : state_->subscribers) subscriber->take(frame);
}

Result<std::unique_ptr<Stream>> EventHub::subscribe(Subscription subscription) {
  if (state_->closed) return Error{ErrorCode::kUnavailable, "the controller is stopping", {}};
  if (state_->subscribers.size() >= state_->limits.subscribers) {
    return Error{ErrorCode::kTooMany,
                 "all " + std::to_string(state_->limits.subscribers) + " event streams are in use",
                 {}};
  }
  return std::unique_ptr<Stream>(new Subscriber(state_, subscription));
}

void EventHub::close() {
  state_->closed = true;
  for (auto* subscriber : state_->subscribers) subscriber->end();
}

std::size_t EventHub::subscribers() const { return state_->subscribers.size(); }
std::uint64_t EventHub::dropped() const { return state_->dropped; }

}  // namespace rackmark::http
