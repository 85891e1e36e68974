// Agents: enrolment, the held sync, event batches, and the list for people.
#include "common/protocol/agents.hpp"

#include <boost/asio/awaitable.hpp>

#include "common/net/offload.hpp"
#include "controller/api/context.hpp"
#include "controller/api/held_syncs.hpp"
#include "controller/api/metrics.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"
#include "controller/service/writer.hpp"

namespace rackmark::api {
namespace {

using boost::asio::awaitable;
using http::Answer;
using http::Call;
using http::Request;
using http::Response;
using protocol::Nothing;

constexpr std::size_t kMaxAgentBody = 16u << 20;

std::string_view bearer_of(const Request& request) {
  std::string_view value = request.header("Authorization");
  constexpr std::string_view kScheme = "Bearer ";
  if (!value.starts_with(kScheme)) return {};
  return value.substr(kScheme.size());
}

awaitable<Result<void>> authenticate(Context& context, std::int64_t agent_id, std::string bearer) {
  auto check = [&context, agent_id, bearer = std::move(bearer)] {
    if (bearer.empty()) {
      return Result<void>(
          Error{ErrorCode::kUnauthorized, "an agent's token is needed: Authorization: Bearer", {}});
    }
    return context.agent_reader.authenticate(agent_id, bearer);
  };
  Result<void> known = co_await net::offload(context.agent_thread, std::move(check));
  co_return known;
}

struct Taken {
  Result<service::SyncReply> reply;
  bool wait = true;
};

Taken take_sync(service::Writer& writer, const Request& request) {
  const auto call = http::decode_call<protocol::SyncUp, Nothing>(request, json::Unknown::kIgnore);
  if (!call) return {call.error(), false};
  return {writer.sync(call->id, call->body), call->body.wait && !call->body.leaving};
}

awaitable<Response> sync(Context& context, Request request) {
  const std::string path = request.path;
  const std::int64_t agent_id = *request.id;
  std::string bearer(bearer_of(request));
  Result<void> known = co_await authenticate(context, agent_id, std::move(bearer));
  if (!known) co_return http::problem(known.error(), path);
  context.syncs.release(agent_id);  // the newer sync answers the held one

  auto take = [&context, request = std::move(request)] {
    return take_sync(context.writer, request);
  };
  Taken taken = co_await net::offload(context.writer_thread, std::move(take));
  if (!taken.reply) co_return http::problem(taken.reply.error(), path);
  if (!taken.wait || taken.reply->answer_now || taken.reply->hold_s <= 0) {
    co_return http::json_response(200, json::encode(taken.reply->down));
  }
  // No wake is lost in between: the writer's thread posts this sync's answer before any later
  // change's wake, and the network thread takes posts in order.
  const std::chrono::duration<double> longest(taken.reply->hold_s);
  co_await context.syncs.hold(agent_id,
                              std::chrono::duration_cast<std::chrono::milliseconds>(longest));
  auto look = [&context, agent_id] { return context.writer.sync_down(agent_id); };
  Result<protocol::SyncDown> down = co_await net::offload(context.writer_thread, std::move(look));
  if (!down) co_return http::problem(down.error(), path);
  co_return http::json_response(200, json::encode(*down));
}

Response accept_events(service::Writer& writer, const Request& request) {
  const auto call =
      http::decode_call<protocol::EventUpload, Nothing>(request, json::Unknown::kIgnore);
  if (!call) return http::problem(call.error(), request.path);
  const auto receipt = writer.accept_events(call->id, call->body);
  if (!receipt) return http::problem(receipt.error(), request.path);
  return http::json_response(200, json::encode(*receipt));
}

awaitable<Response> upload_events(Context& context, Request request) {
  const std::string path = request.path;
  std::string bearer(bearer_of(request));
  Result<void> known = co_await authenticate(context, *request.id, std::move(bearer));
  if (!known) co_return http::problem(known.error(), path);
  auto work = [&context, request = std::move(request)] {
    return accept_events(context.writer, request);
  };
  Response response = co_await net::offload(context.writer_thread, std::move(work));
  context.metrics.count_event_upload(response.status);
  co_return response;
}

template <class Endpoint>
void add_agent_route(http::Router& router, Context& context, const Endpoint& endpoint,
                     awaitable<Response> (*handler)(Context&, Request)) {
  http::Route route = http::describe(router, endpoint, {.max_body = kMaxAgentBody});
  route.handler = [&context, handler](Request request) {
    return handler(context, std::move(request));
  };
  router.add(std::move(route));
}

// The web view puts its own address in place of URL.
constexpr std::string_view kPackCommand =
    "deploy/pack && scp build/rackmark-agent-" RACKMARK_VERSION
    ".tar.gz HOST: && ssh HOST 'tar xzf rackmark-agent-" RACKMARK_VERSION
    ".tar.gz && RACKMARK_ENROL_TOKEN='$(rackmark agents token)' rackmark-agent/start "
    "--controller URL'";

}  // namespace

void add_agent_routes(http::Router& router, Context& context) {
  auto& reader = context.reader;
  auto& writer = context.writer;
  http::add(router, protocol::kCreateEnrolmentToken, context.writer_thread,
            [&writer](const Call<protocol::EnrolmentTokenRequest, Nothing>& call) {
              return writer.create_enrolment_token(call.body.valid_s, who(call.request));
            });
  http::add(router, protocol::kEnrol, context.writer_thread,
            [&writer](const Call<protocol::Enrolment, Nothing>& call)
                -> Result<Answer<protocol::Enrolled>> {
              auto enrolled = writer.enrol(call.body);
              if (!enrolled) return enrolled.error();
              std::string location = "/api/v1/agents/" + std::to_string(enrolled->agent_id);
              return Answer<protocol::Enrolled>{
                  std::move(*enrolled), 0, {{"Location", std::move(location)}}};
            },
            {.unknown = json::Unknown::kIgnore});
  add_agent_route(router, context, protocol::kSync, sync);
  add_agent_route(router, context, protocol::kUploadEvents, upload_events);
  http::add(router, protocol::kListAgents, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>&) {
              protocol::AgentList list = reader.agents();
              list.pack_command = kPackCommand;
              return Result<protocol::AgentList>(std::move(list));
            });
  http::add(router, protocol::kShowAgent, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>& call) { return reader.agent(call.id); });
  http::add(router, protocol::kRetireAgent, context.writer_thread,
            [&writer](const Call<Nothing, Nothing>& call) {
              return writer.retire_agent(call.id, who(call.request));
            });
}

}  // namespace rackmark::api
