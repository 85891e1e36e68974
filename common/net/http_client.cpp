#include "common/net/http_client.hpp"

#include "common/net/connection.hpp"

namespace rackmark::net {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Deadline = std::chrono::steady_clock::time_point;

namespace {

constexpr std::size_t kMaxIdle = 4;

http::verb to_beast(protocol::Verb verb) {
  switch (verb) {
    case protocol::Verb::kGet:
      return http::verb::get;
    case protocol::Verb::kPost:
      return http::verb::post;
    case protocol::Verb::kPut:
      return http::verb::put;
    case protocol::Verb::kDelete:
      return http::verb::delete_;
  }
  return http::verb::get;
}

bool may_repeat(const HttpCall& call) {
  if (call.verb != protocol::Verb::kPost) return true;
  for (const auto& [name, value] : call.headers) {
    if (beast::iequals(name, "Idempotency-Key")) return true;
  }
  return false;
}

// A kept connection that is readable while no request is open was closed by the peer.
bool still_open(beast::tcp_stream& stream) {
  auto& socket = stream.socket();
  if (!socket.is_open()) return false;
  error_code ec;
  socket.non_blocking(true, ec);
  char byte = 0;
  socket.receive(asio::buffer(&byte, 1), asio::socket_base::message_peek, ec);
  return ec == asio::error::would_block || ec == asio::error::try_again;
}

HttpReply to_reply(http::response<http::string_body> message) {
  HttpReply reply;
  reply.status = static_cast<int>(message.result_int());
  for (const auto& field : message) {
    reply.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  reply.body = std::move(message.body());
  return reply;
}

}  // namespace

std::string_view HttpReply::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (beast::iequals(key, beast::string_view(name.data(), name.size()))) return value;
  }
  return {};
}

Error unreachable(const BaseUrl& base, const error_code& ec) {
  const bool late = ec == beast::error::timeout || ec == asio::error::timed_out;
  return Error{ErrorCode::kUnavailable,
               "cannot reach " + base.text() + ": " + (late ? "no answer in time" : ec.message()),
               {}};
}

asio::awaitable<error_code> connect(Connection& connection, const BaseUrl& base,
                                    Deadline deadline) {
  error_code ec;
  asio::ip::tcp::resolver resolver(connection.stream.get_executor());
  auto found = co_await resolver.async_resolve(base.host, std::to_string(base.port),
                                               asio::redirect_error(asio::use_awaitable, ec));
  if (ec) co_return ec;
  connection.stream.expires_at(deadline);
  co_await connection.stream.async_connect(found, asio::redirect_error(asio::use_awaitable, ec));
  if (!ec) {
    error_code ignored;  // only a matter of speed
    connection.stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  }
  co_return ec;
}

struct HttpClient::Impl {
  asio::any_io_executor executor;
  BaseUrl base;
  Headers always{{"User-Agent", "rackmark/" RACKMARK_VERSION}};
  std::vector<std::unique_ptr<Connection>> idle;

  std::unique_ptr<Connection> take_idle() {
    while (!idle.empty()) {
      auto connection = std::move(idle.back());
      idle.pop_back();
      if (!still_open(connection->stream)) continue;
      connection->reused = true;
      return connection;
    }
    return nullptr;
  }

  http::request<http::string_body> to_message(const HttpCall& call) const {
    http::request<http::string_body> message{to_beast(call.verb), call.target, 11};
    message.set(http::field::host, base.authority());
    for (const auto& [name, value] : always) message.set(name, value);
    if (!call.body.empty()) message.set(http::field::content_type, "application/json");
    for (const auto& [name, value] : call.headers) message.set(name, value);
    message.body() = call.body;
    message.prepare_payload();
    return message;
  }
};

HttpClient::HttpClient(asio::any_io_executor executor, BaseUrl base)
    : impl_(new Impl{std::move(executor), std::move(base), {}, {}}) {
  impl_->always = {{"User-Agent", "rackmark/" RACKMARK_VERSION}};
}

HttpClient::~HttpClient() = default;

const BaseUrl& HttpClient::base() const { return impl_->base; }

void HttpClient::set_header(std::string name, std::string value) {
  std::erase_if(impl_->always, [&](const auto& h) { return beast::iequals(h.first, name); });
  impl_->always.emplace_back(std::move(name), std::move(value));
}

namespace {

struct Exchanged {
  error_code ec;
  bool reply_began = false;
  bool keep = false;
  HttpReply reply;
};

asio::awaitable<Exchanged> exchange(Connection& connection,
                                    const http::request<http::string_body>& message,
                                    Deadline deadline) {
  Exchanged out;
  connection.stream.expires_at(deadline);
  co_await http::async_write(connection.stream, message,
                             asio::redirect_error(asio::use_awaitable, out.ec));
  if (out.ec) co_return out;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxReplyBytes);
  parser.header_limit(64u << 10);
  co_await http::async_read(connection.stream, connection.buffer, parser,
                            asio::redirect_error(asio::use_awaitable, out.ec));
  out.reply_began = parser.got_some();
  if (out.ec) co_return out;
  out.keep = parser.keep_alive();
  out.reply = to_reply(parser.release());
  co_return out;
}

}  // namespace

asio::awaitable<Result<HttpReply>> HttpClient::request(HttpCall call) {
  const Deadline deadline = std::chrono::steady_clock::now() + call.timeout;
  const auto message = impl_->to_message(call);
  for (;;) {
    auto connection = impl_->take_idle();
    if (!connection) {
      connection = std::make_unique<Connection>(impl_->executor);
      const error_code ec = co_await connect(*connection, impl_->base, deadline);
      if (ec) co_return unreachable(impl_->base, ec);
    }
    Exchanged done = co_await exchange(*connection, message, deadline);
    if (!done.ec) {
      if (done.keep && impl_->idle.size() < kMaxIdle) {
        connection->stream.expires_never();
        impl_->idle.push_back(std::move(connection));
      }
      co_return std::move(done.reply);
    }
    if (done.ec == http::error::body_limit) {
      co_return Error{ErrorCode::kTooLarge, "the answer is larger than 64 MiB", {}};
    }
    // The peer may close a kept connection just as we write: nothing was served then.
    const bool timed_out = done.ec == beast::error::timeout;
    if (!connection->reused || done.reply_began || timed_out || !may_repeat(call)) {
      co_return unreachable(impl_->base, done.ec);
    }
  }
}

}  // namespace rackmark::net
