// Server-sent events, reading side.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "common/net/target.hpp"

namespace rackmark::net {

struct SseEvent {
  std::string id;     // "" for a live event that cannot be resumed
  std::string event;  // "message" when the stream did not say
  std::string data;
};

// Bytes to events, as the HTML standard says: LF, CR or CRLF, several data lines, comments. The
// unfinished rest is bounded (1 MiB): feed() returns false once when it passes that.
class SseParser {
 public:
  bool feed(std::string_view bytes, const std::function<void(const SseEvent&)>& on_event);

 private:
  void line(std::string_view text, const std::function<void(const SseEvent&)>& on_event);
  std::string rest_, data_, event_, id_;
  bool has_data_ = false, after_cr_ = false;
};

struct SseOptions {
  std::string last_event_id;                       // resume after this; "" = from now on
  std::chrono::milliseconds idle_timeout{45'000};  // the controller sends a comment every 15 s
  std::chrono::milliseconds give_up_after{0};  // without a connection; 0 = after the first failure
  std::vector<std::pair<std::string, std::string>> headers;
};

// Calls `on_event` for each event until it returns false (then: success). A broken stream is taken
// up again after its last id, waiting 0.2 s, 0.4 s, ... 5 s between attempts; kUnavailable when
// that fails for `give_up_after`; the Error of the problem when the controller refuses.
boost::asio::awaitable<Result<void>> read_events(BaseUrl base, std::string target,
                                                 SseOptions options,
                                                 std::function<bool(const SseEvent&)> on_event);

}  // namespace rackmark::net
