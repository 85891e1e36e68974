// Calls to the controller over plain HTTP with keep-alive, as a coroutine (HttpClient) or blocking
// (BlockingClient: cli and tests). Endpoints give verb, path and types, so a call reads
//   Result<JobView> job = co_await client.call(protocol::kShowJob, 42);
// Beast is not included here.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "common/json/described.hpp"
#include "common/net/problem.hpp"
#include "common/net/sse.hpp"
#include "common/net/target.hpp"
#include "common/protocol/endpoint.hpp"

namespace rackmark::net {

using Headers = std::vector<std::pair<std::string, std::string>>;

inline constexpr std::size_t kMaxReplyBytes = 64u << 20;
inline constexpr std::chrono::milliseconds kDefaultTimeout{30'000};

struct HttpReply {
  int status = 0;
  Headers headers;
  std::string body;
  std::string_view header(std::string_view name) const;  // "" when absent; any case
};

// A call made ready to send.
struct HttpCall {
  protocol::Verb verb = protocol::Verb::kGet;
  std::string target, body;  // a body is JSON; "" sends none
  Headers headers;
  std::chrono::milliseconds timeout = kDefaultTimeout;  // from resolving to the last byte
};

template <class Body, class Reply, class Query>
HttpCall make_call(const protocol::Endpoint<Body, Reply, Query>& endpoint, const PathParams& params,
                   const Query& query, const Body& body) {
  HttpCall call;
  call.verb = endpoint.verb;
  call.target = expand_path(endpoint.path, params);
  if constexpr (!std::is_same_v<Query, protocol::Nothing>) {
    call.target += query_string(json::encode(query), json::encode(Query{}));
  }
  if constexpr (!std::is_same_v<Body, protocol::Nothing>) {
    call.body = json::encode(body).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  return call;
}

// A 2xx reply as T (unknown members ignored); problem+json as its Error.
template <class T>
Result<T> decode_reply(const Result<HttpReply>& reply) {
  if (!reply) return reply.error();
  if (reply->status >= 400) return from_problem(reply->status, reply->body);
  const auto parsed = json::parse(reply->body);
  if (!parsed) return Error{ErrorCode::kInternal, "the controller's answer is not JSON", {}};
  if constexpr (std::is_same_v<T, nlohmann::json>) {
    return Result<T>(boost::system::in_place_value, *parsed);
  } else {
    return json::decode<T>(*parsed, json::Unknown::kIgnore);
  }
}

// Keeps up to four idle connections; concurrent requests each get their own. All calls from the
// thread of `executor`; the client outlives them.
class HttpClient {
 public:
  HttpClient(boost::asio::any_io_executor executor, BaseUrl base);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  const BaseUrl& base() const;
  // Sent with every request: Authorization, User-Agent. Replaces an earlier one of that name.
  void set_header(std::string name, std::string value);

  // Any reply, also 4xx and 5xx, is a value. kUnavailable naming the address when there is none
  // (refused, timed out, broken off); kTooLarge when the body passes 64 MiB. A request on a kept
  // connection that the peer had closed is sent again once if that is safe: GET, PUT, DELETE, or
  // with an Idempotency-Key.
  boost::asio::awaitable<Result<HttpReply>> request(HttpCall call);
  boost::asio::awaitable<Result<HttpReply>> request(
      protocol::Verb verb, std::string target, std::string body = {}, Headers headers = {},
      std::chrono::milliseconds timeout = kDefaultTimeout) {
    return request(HttpCall{verb, std::move(target), std::move(body), std::move(headers), timeout});
  }

  template <class Body, class Reply, class Query>
  boost::asio::awaitable<Result<Reply>> call(const protocol::Endpoint<Body, Reply, Query>& endpoint,
                                             PathParams params = {}, const Query& query = {},
                                             const Body& body = {},
                                             std::chrono::milliseconds timeout = kDefaultTimeout,
                                             Headers headers = {}) {
    HttpCall prepared = make_call(endpoint, params, query, body);
    prepared.timeout = timeout;
    prepared.headers = std::move(headers);
    return decoded<Reply>(std::move(prepared));
  }

 private:
  template <class T>
  boost::asio::awaitable<Result<T>> decoded(HttpCall call) {
    Result<HttpReply> reply = co_await request(std::move(call));
    co_return decode_reply<T>(reply);
  }

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The same, blocking the calling thread. One thread at a time.
class BlockingClient {
 public:
  explicit BlockingClient(BaseUrl base);
  ~BlockingClient();
  BlockingClient(const BlockingClient&) = delete;
  BlockingClient& operator=(const BlockingClient&) = delete;

  const BaseUrl& base() const;
  void set_header(std::string name, std::string value);

  Result<HttpReply> request(HttpCall call);
  Result<HttpReply> request(protocol::Verb verb, std::string target, std::string body = {},
                            Headers headers = {},
                            std::chrono::milliseconds timeout = kDefaultTimeout) {
    return request(HttpCall{verb, std::move(target), std::move(body), std::move(headers), timeout});
  }

  template <class Body, class Reply, class Query>
  Result<Reply> call(const protocol::Endpoint<Body, Reply, Query>& endpoint, PathParams params = {},
                     const Query& query = {}, const Body& body = {},
                     std::chrono::milliseconds timeout = kDefaultTimeout, Headers headers = {}) {
    return call_as<Reply>(endpoint, std::move(params), query, body, timeout, std::move(headers));
  }
  // For the endpoint that answers two types: call_as<DryRun>(kSubmitJob, {}, {.validate = true},
  // spec).
  template <class T, class Body, class Reply, class Query>
  Result<T> call_as(const protocol::Endpoint<Body, Reply, Query>& endpoint, PathParams params = {},
                    const Query& query = {}, const Body& body = {},
                    std::chrono::milliseconds timeout = kDefaultTimeout, Headers headers = {}) {
    HttpCall prepared = make_call(endpoint, params, query, body);
    prepared.timeout = timeout;
    prepared.headers = std::move(headers);
    return decode_reply<T>(request(std::move(prepared)));
  }

  // See read_events() in sse.hpp. `on_event` may not call this client: it is busy.
  Result<void> events(std::string target, SseOptions options,
                      std::function<bool(const SseEvent&)> on_event);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rackmark::net
