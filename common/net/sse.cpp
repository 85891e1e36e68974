#include "common/net/sse.hpp"

#include <algorithm>
#include <span>

#include "common/net/connection.hpp"
#include "common/net/http_client.hpp"
#include "common/net/task_group.hpp"

namespace rackmark::net {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {
constexpr std::size_t kMaxPending = 1u << 20;
}

bool SseParser::feed(std::string_view bytes, const std::function<void(const SseEvent&)>& on_event) {
  for (const char c : bytes) {
    const bool second_of_crlf = after_cr_ && c == '\n';
    after_cr_ = c == '\r';
    if (second_of_crlf) continue;
    if (c != '\n' && c != '\r') {
      rest_ += c;
      continue;
    }
    const std::string text = std::exchange(rest_, {});
    line(text, on_event);
  }
  return rest_.size() + data_.size() <= kMaxPending;
}

void SseParser::line(std::string_view text, const std::function<void(const SseEvent&)>& on_event) {
  if (text.empty()) {
    if (has_data_) on_event({id_, event_.empty() ? "message" : event_, data_});
    data_.clear(), event_.clear(), id_.clear(), has_data_ = false;
    return;
  }
  if (text.front() == ':') return;  // a comment: the controller's heartbeat
  const auto colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  std::string_view value =
      colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (name == "data") {
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  } else if (name == "event") {
    event_ = value;
  } else if (name == "id") {
    id_ = value;
  }
}

namespace {

struct StreamEnd {
  bool connected = false;        // an answer came: attempts start anew
  bool stopped = false;          // on_event said so
  std::optional<Error> refused;  // an answer other than 200
  error_code ec;
};

http::request<http::empty_body> to_message(const BaseUrl& base, const std::string& target,
                                           const SseOptions& options) {
  http::request<http::empty_body> message{http::verb::get, target, 11};
  message.set(http::field::host, base.authority());
  message.set(http::field::accept, "text/event-stream");
  message.set(http::field::user_agent, "rackmark/" RACKMARK_VERSION);
  for (const auto& [name, value] : options.headers) message.set(name, value);
  if (!options.last_event_id.empty()) message.set("Last-Event-ID", options.last_event_id);
  return message;
}

using Parser = http::response_parser<http::buffer_body>;

// The next piece of the body into `chunk`; its length, 0 at the end or with `ec`.
asio::awaitable<std::size_t> read_chunk(Connection& connection, Parser& parser,
                                        std::span<char> chunk, error_code& ec) {
  if (parser.is_done()) co_return 0;
  auto& body = parser.get().body();
  body.data = chunk.data();
  body.size = chunk.size();
  co_await http::async_read_some(connection.stream, connection.buffer, parser,
                                 asio::redirect_error(asio::use_awaitable, ec));
  if (ec == http::error::need_buffer) ec = {};
  co_return chunk.size() - body.size;
}

asio::awaitable<StreamEnd> read_stream(const BaseUrl& base, const std::string& target,
                                       SseOptions& options,
                                       const std::function<bool(const SseEvent&)>& on_event) {
  StreamEnd end;
  Connection connection(co_await asio::this_coro::executor);
  end.ec = co_await connect(connection, base, steady_clock::now() + std::chrono::seconds(10));
  if (end.ec) co_return end;
  const auto message = to_message(base, target, options);
  co_await http::async_write(connection.stream, message,
                             asio::redirect_error(asio::use_awaitable, end.ec));
  if (end.ec) co_return end;
  Parser parser;
  parser.body_limit(boost::none);  // endless by nature; SseParser bounds what is kept
  co_await http::async_read_header(connection.stream, connection.buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, end.ec));
  if (end.ec) co_return end;
  const int status = static_cast<int>(parser.get().result_int());
  end.connected = status == 200;

  SseParser events;
  std::string refusal;
  std::vector<char> chunk(16u << 10);
  const auto take = [&](const SseEvent& event) {
    if (end.stopped) return;
    if (!event.id.empty()) options.last_event_id = event.id;
    end.stopped = !on_event(event);
  };
  while (!end.stopped) {
    connection.stream.expires_after(options.idle_timeout);
    const std::size_t n = co_await read_chunk(connection, parser, chunk, end.ec);
    const std::string_view bytes(chunk.data(), n);
    if (status != 200) {
      refusal.append(bytes);
    } else if (!events.feed(bytes, take)) {
      end.refused = Error{ErrorCode::kTooLarge, "an event is larger than 1 MiB", {}};
      co_return end;
    }
    if (end.ec || parser.is_done() || refusal.size() > kMaxPending) break;
  }
  if (status != 200) end.refused = from_problem(status, refusal);
  co_return end;
}

}  // namespace

asio::awaitable<Result<void>> read_events(BaseUrl base, std::string target, SseOptions options,
                                          std::function<bool(const SseEvent&)> on_event) {
  auto alone_since = steady_clock::now();
  milliseconds pause{200};
  for (;;) {
    const StreamEnd end = co_await read_stream(base, target, options, on_event);
    if (end.stopped) co_return Result<void>();
    // Shutting down (503) is worth another try; any other refusal is final.
    if (end.refused && end.refused->code != ErrorCode::kUnavailable) co_return *end.refused;
    if (end.connected) alone_since = steady_clock::now(), pause = milliseconds(200);
    if (!end.connected && steady_clock::now() - alone_since >= options.give_up_after) {
      co_return end.refused ? *end.refused : unreachable(base, end.ec);
    }
    co_await sleep_for(pause);
    pause = std::min(pause * 2, milliseconds(5000));
  }
}

}  // namespace rackmark::net
