// GET /api/v1/events: the event log and live events as server-sent events.
#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <charconv>

#include "common/net/offload.hpp"
#include "common/protocol/system.hpp"
#include "controller/api/context.hpp"
#include "controller/http/event_hub.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"

namespace rackmark::api {
namespace {

using boost::asio::awaitable;
using http::Request;
using http::Response;

// nullopt without the header; kMalformed when it is no number of the log.
Result<std::optional<std::int64_t>> resume_after(const Request& request) {
  const std::string_view text = request.header("Last-Event-ID");
  if (text.empty()) return std::optional<std::int64_t>();
  std::int64_t id = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (ec != std::errc{} || end != text.data() + text.size() || id < 0) {
    return Error{ErrorCode::kMalformed,
                 "Last-Event-ID is '" + std::string(text) + "', allowed: a number of the event log",
                 {}};
  }
  return std::optional(id);
}

// What of the log is still there for this reader.
awaitable<http::Subscription> plan(Context& context, std::optional<std::int64_t> job,
                                   std::optional<std::int64_t> after) {
  http::Subscription subscription{job, after, false};
  if (!after) co_return subscription;
  auto look = [&context] {
    return std::pair(context.reader.oldest_event_id(), context.reader.newest_event_id());
  };
  const auto [oldest, newest] = co_await net::offload(context.reader_thread, std::move(look));
  // Beyond the end: the number is of another database.
  subscription.gap = *after > newest || *after + 1 < oldest;
  subscription.after = std::min(*after, newest);
  co_return subscription;
}

awaitable<Response> open_stream(Context& context, Request request) {
  const auto query = http::decode_query<protocol::EventQuery>(request.query);
  if (!query) co_return http::problem(query.error(), request.path);
  const auto after = resume_after(request);
  if (!after) co_return http::problem(after.error(), request.path);
  Response response;
  response.content_type = "text/event-stream";
  response.headers.emplace_back("X-Accel-Buffering", "no");
  if (request.method == "HEAD") co_return response;
  const http::Subscription wanted = co_await plan(context, query->job, *after);
  auto stream = context.events.subscribe(wanted);
  if (!stream) co_return http::problem(stream.error(), request.path);
  response.stream = std::move(*stream);
  co_return response;
}

}  // namespace

void add_event_routes(http::Router& router, Context& context) {
  http::Route route;
  route.path = "/api/v1/events";
  route.doc.summary = "What happens, as server-sent events; Last-Event-ID resumes";
  route.doc.role = "viewer";
  route.doc.content_type = "text/event-stream";
  route.doc.parameters = http::query_parameters<protocol::EventQuery>(router.schemas());
  route.doc.parameters.push_back({{"name", "Last-Event-ID"},
                                  {"in", "header"},
                                  {"required", false},
                                  {"schema", {{"type", "integer"}, {"minimum", 0}}}});
  route.doc.reply = {{"type", "string"}};
  route.handler = [&context](Request request) { return open_stream(context, std::move(request)); };
  router.add(std::move(route));
}

}  // namespace rackmark::api
