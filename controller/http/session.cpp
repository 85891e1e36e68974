#include "controller/http/session.hpp"

#include <array>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <ctime>

#include "common/net/log.hpp"

namespace rackmark::http {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using boost::system::error_code;
using std::chrono::steady_clock;

namespace {

using Parser = wire::request_parser<wire::string_body>;

struct Open {  // of one connection, all on the stack of run_session
  SessionContext& context;
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  std::string peer;
};

bool is_http_error(const error_code& ec) {
  static const error_code sample = wire::error::bad_method;
  return ec.category() == sample.category();
}

// The answer to a request that could not be read; nullopt when there is nobody to tell. (One that
// came too slowly is not told: the stream's deadline has closed the connection already.)
std::optional<Response> reading_failed(const error_code& ec, const std::string& path) {
  if (ec == wire::error::end_of_stream || ec == wire::error::partial_message) return std::nullopt;
  if (ec == wire::error::header_limit || ec == wire::error::buffer_overflow) {
    return problem(431, "the request's header is too large", path);
  }
  if (ec == wire::error::body_limit) {
    return problem({ErrorCode::kTooLarge, "the body is too large", {}}, path);
  }
  if (is_http_error(ec)) {
    return problem({ErrorCode::kMalformed, "not an HTTP request: " + ec.message(), {}}, path);
  }
  return std::nullopt;
}

// Path and query of a target, decoded; false for what no route could mean.
bool read_target(std::string_view target, Request& request) {
  const auto url = boost::urls::parse_origin_form(target);
  if (!url) return false;
  request.path = url->path();
  for (const auto& param : url->params()) request.query.emplace_back(param.key, param.value);
  for (const unsigned char c : request.path) {
    if (c < 0x20 || c == 0x7f) return false;
  }
  return request.path.starts_with('/');
}

Request to_request(const wire::request<wire::string_body>& message, const std::string& peer) {
  Request request;
  request.method = std::string(message.method_string());
  for (const auto& field : message) {
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request.peer = peer;
  return request;
}

// "Sun, 22 Nov 2026 14:53:43 GMT": browsers tell ages by it, whatever their own clock says.
std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 40> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

wire::response<wire::string_body> to_message(Response& response, unsigned version,
                                             bool keep_alive) {
  wire::response<wire::string_body> message{static_cast<wire::status>(response.status), version};
  message.set("X-Content-Type-Options", "nosniff");
  message.set(wire::field::date, date_now());
  bool says_cache = false;
  for (const auto& [name, value] : response.headers) {
    message.insert(name, value);
    says_cache = says_cache || name == "Cache-Control";
  }
  if (!says_cache) message.set(wire::field::cache_control, "no-store");
  if (!response.content_type.empty()) {
    message.set(wire::field::content_type, response.content_type);
  }
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  return message;
}

asio::awaitable<error_code> write_stream(Open& open, Response response, unsigned version) {
  error_code ec;
  auto text = to_message(response, version, false);
  wire::response<wire::empty_body> head{std::move(text.base())};
  head.chunked(version >= 11);
  wire::response_serializer<wire::empty_body> serializer{head};
  open.stream.expires_after(open.context.options.write_timeout);
  co_await wire::async_write_header(open.stream, serializer,
                                    asio::redirect_error(asio::use_awaitable, ec));
  while (!ec) {
    open.stream.expires_never();
    std::optional<std::string> piece = co_await response.stream->next();
    if (!piece) break;
    open.stream.expires_after(open.context.options.write_timeout);
    if (version >= 11) {
      const auto chunk = wire::make_chunk(asio::buffer(*piece));
      co_await asio::async_write(open.stream, chunk, asio::redirect_error(asio::use_awaitable, ec));
    } else {
      co_await asio::async_write(open.stream, asio::buffer(*piece),
                                 asio::redirect_error(asio::use_awaitable, ec));
    }
  }
  if (!ec && version >= 11) {
    const auto last = wire::make_chunk_last();
    co_await asio::async_write(open.stream, last, asio::redirect_error(asio::use_awaitable, ec));
  }
  co_return ec;
}

asio::awaitable<error_code> write(Open& open, Response response, unsigned version, bool keep_alive,
                                  bool head_only) {
  error_code ec;
  if (response.stream && !head_only) {
    ec = co_await write_stream(open, std::move(response), version);
    co_return ec;
  }
  const std::size_t length = response.body.size();
  auto message = to_message(response, version, keep_alive);
  if (head_only) message.body().clear();
  if (message.result() != wire::status::not_modified) message.content_length(length);
  wire::response_serializer<wire::string_body> serializer{message};
  while (!ec && !serializer.is_done()) {  // whoever takes some has its time anew
    open.stream.expires_after(open.context.options.write_timeout);
    co_await wire::async_write_some(open.stream, serializer,
                                    asio::redirect_error(asio::use_awaitable, ec));
  }
  co_return ec;
}

// A close with unread bytes resets the connection, and the peer may lose our last answer: read what
// still comes, for a short while.
asio::awaitable<void> linger(Open& open) {
  error_code ec;
  open.stream.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  open.stream.expires_after(std::chrono::seconds(1));
  std::array<char, 16384> scratch;
  std::size_t total = 0;
  while (!ec && total < (32u << 20)) {
    total += co_await open.stream.async_read_some(asio::buffer(scratch),
                                                  asio::redirect_error(asio::use_awaitable, ec));
  }
}

// Waits for the first byte of a request; such a connection may be closed at any time.
asio::awaitable<bool> wait_request(Open& open) {
  if (open.buffer.size() > 0) co_return true;
  if (open.context.stopping) co_return false;
  error_code ec;
  open.stream.expires_after(open.context.options.keep_alive_timeout);
  open.context.idle.insert(&open.stream);
  const std::size_t n = co_await open.stream.async_read_some(
      open.buffer.prepare(4096), asio::redirect_error(asio::use_awaitable, ec));
  open.context.idle.erase(&open.stream);
  open.buffer.commit(n);
  co_return !ec;
}

struct Incoming {
  std::optional<Request> request;
  std::optional<Response> refusal;  // answer this and close
};

// Header first: the route decides how large the body may be, and a foreign Host is not read on.
asio::awaitable<Incoming> read_request(Open& open, Parser& parser) {
  Incoming in;
  error_code ec;
  parser.header_limit(static_cast<std::uint32_t>(open.context.options.max_header_bytes));
  parser.body_limit(boost::none);
  open.stream.expires_after(open.context.options.header_timeout);
  co_await wire::async_read_header(open.stream, open.buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, ec));
  if (ec) {
    in.refusal = reading_failed(ec, "");
    co_return in;
  }
  Request request = to_request(parser.get(), open.peer);
  if (!read_target(parser.get().target(), request)) {
    in.refusal = problem({ErrorCode::kMalformed, "the request's target is not a path", {}}, "");
    co_return in;
  }
  if (auto refused = check_host(request, open.context.options.hosts)) {
    in.refusal = problem(*refused, request.path);
    co_return in;
  }
  const std::size_t limit = open.context.router.max_body(request.method, request.path);
  if (parser.content_length().value_or(0) > limit) {
    in.refusal = problem(
        {ErrorCode::kTooLarge, "the body is larger than " + std::to_string(limit) + " bytes", {}},
        request.path);
    co_return in;
  }
  parser.body_limit(limit);
  if (beast::iequals(parser.get()[wire::field::expect], "100-continue")) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(open.stream, asio::buffer(kContinue),
                               asio::redirect_error(asio::use_awaitable, ec));
  }
  open.stream.expires_after(open.context.options.body_timeout);
  if (!ec) {
    co_await wire::async_read(open.stream, open.buffer, parser,
                              asio::redirect_error(asio::use_awaitable, ec));
  }
  if (ec) {
    in.refusal = reading_failed(ec, request.path);
    co_return in;
  }
  request.body = std::move(parser.get().body());
  in.request = std::move(request);
  co_return in;
}

// Reads and answers one request; false when the connection is to be closed.
asio::awaitable<bool> serve_one(Open& open) {
  Parser parser;
  Incoming in = co_await read_request(open, parser);
  const auto began = steady_clock::now();
  const unsigned version = parser.get().version() == 10 ? 10 : 11;
  const std::string method(parser.get().method_string());
  if (!in.request && !in.refusal) co_return false;
  const bool refused = in.refusal.has_value();
  open.stream.expires_never();
  Response response;
  if (refused) {
    response = std::move(*in.refusal);
  } else {
    response = co_await open.context.router.dispatch(std::move(*in.request));
  }
  const std::string route = response.route;
  const int status = response.status;
  const bool streaming = response.stream != nullptr;
  const bool keep = !refused && !streaming && parser.keep_alive() && !open.context.stopping;
  const auto observe = [&] {
    const std::chrono::duration<double> took = steady_clock::now() - began;
    if (open.context.observe) open.context.observe({route, method, status, took.count()});
  };
  if (streaming) observe();  // a stream's length is no latency
  const error_code ec = co_await write(open, std::move(response), version, keep, method == "HEAD");
  if (!streaming) observe();
  if (ec) co_return false;
  if (!keep) co_await linger(open);
  co_return keep;
}

std::string peer_of(const asio::ip::tcp::socket& socket) {
  error_code ec;
  const auto endpoint = socket.remote_endpoint(ec);
  return ec ? "" : endpoint.address().to_string();
}

}  // namespace

asio::awaitable<void> run_session(std::shared_ptr<SessionContext> context,
                                  asio::ip::tcp::socket socket) {
  std::string peer = peer_of(socket);
  Open open{*context, beast::tcp_stream(std::move(socket)), beast::flat_buffer{}, std::move(peer)};
  error_code ignored;  // only a matter of speed
  open.stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  for (;;) {
    if (!co_await wait_request(open)) co_return;
    if (!co_await serve_one(open)) co_return;
  }
}

asio::awaitable<void> refuse_session(std::shared_ptr<SessionContext> context,
                                     asio::ip::tcp::socket socket) {
  Open open{*context, beast::tcp_stream(std::move(socket)), beast::flat_buffer{}, ""};
  Response response = problem({ErrorCode::kUnavailable, "too many connections, try again", {}}, "");
  const error_code ec = co_await write(open, std::move(response), 11, false, false);
  if (!ec) co_await linger(open);
}

}  // namespace rackmark::http
