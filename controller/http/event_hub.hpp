// Server-sent events, sending side: one hub, many subscribers, each with a bounded queue. A reader
// that is too slow is dropped, and takes up the stream again with Last-Event-ID.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controller/http/message.hpp"

namespace rackmark::http {

struct Frame {
  std::optional<std::int64_t> id;           // rows of the event log have one
  std::optional<std::int64_t> job_id;       // what a subscriber may filter by
  std::shared_ptr<const std::string> text;  // as sent, shared by all subscribers
};
// `data` in one line: JSON without newlines.
Frame make_frame(std::optional<std::int64_t> id, std::optional<std::int64_t> job_id,
                 std::string_view event, std::string_view data);

struct HubLimits {
  std::size_t subscribers = 256;
  std::size_t queued_frames = 2000, queued_bytes = 4u << 20;  // of each subscriber
  std::chrono::milliseconds heartbeat{15'000};
};

struct Subscription {
  std::optional<std::int64_t> job_id;
  std::optional<std::int64_t> after;  // resume: first the log's rows above this id
  bool gap = false;                   // rows after it are gone: say so with an event "gap"
};

// Everything from the one thread of `executor`. Streams may outlive the hub.
class EventHub {
 public:
  // Rows of the log above `after` that concern `job`, oldest first; empty at the end of the log.
  using Replay = std::function<boost::asio::awaitable<std::vector<Frame>>(
      std::int64_t after, std::optional<std::int64_t> job)>;

  EventHub(boost::asio::any_io_executor executor, Replay replay, HubLimits limits = {});
  ~EventHub();
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;

  void publish(const Frame& frame);
  // kTooMany, or kUnavailable after close().
  Result<std::unique_ptr<Stream>> subscribe(Subscription subscription);
  void close();  // every stream ends now
  std::size_t subscribers() const;
  std::uint64_t dropped() const;  // subscribers that were too slow

 private:
  struct State;
  class Subscriber;
  std::shared_ptr<State> state_;
};

}  // namespace rackmark::http
