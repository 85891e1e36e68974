// Binds a function over plain structs to an Endpoint:
//   add(router, protocol::kShowJob, threads.reader, [&](const Call<Nothing, Nothing>& call) {
//     return reader.job(call.id);
//   });
// Decoding, the function and encoding all run on the thread that is named, never on the network
// thread. Broken JSON and bad query parameters are 400, a body that does not fit the type is 422.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <concepts>
#include <string>
#include <utility>

#include "common/json/described.hpp"
#include "controller/http/query.hpp"
#include "controller/http/router.hpp"
#include "controller/http/schema.hpp"

namespace rackmark::http {

template <class Body, class Query>
struct Call {
  const Request& request;
  std::int64_t id = 0;  // of the path; 0 when it has none
  Query query;
  Body body;
};

struct RouteOptions {
  json::Unknown unknown = json::Unknown::kRefuse;  // kIgnore: what neighbouring versions send
  std::size_t max_body = kMaxBody;
};

// A reply that needs more than its JSON: a Location, another status.
template <class Reply>
struct Answer {
  Reply reply;
  int status = 0;  // 0 = the endpoint's
  Headers headers;
};

using SyncHandler = std::function<Response(const Request&)>;
// `work` on `where`, awaited.
Handler on_thread(boost::asio::any_io_executor where, SyncHandler work);

// The problem of a handler's error. What is wrong with a GET is its query: 400, not 422.
Response refused(Error error, const Request& request);

Response json_response(int status, const nlohmann::json& body);

// Query and body of a request as structs: what a handler starts with.
template <class Body, class Query>
Result<Call<Body, Query>> decode_call(const Request& request, json::Unknown unknown) {
  Call<Body, Query> call{request, request.id.value_or(0), {}, {}};
  auto query = decode_query<Query>(request.query);
  if (!query) return query.error();
  call.query = std::move(*query);
  if constexpr (!std::is_same_v<Body, protocol::Nothing>) {
    auto parsed = json::parse(request.body);
    if (!parsed) return parsed.error();
    if constexpr (std::is_same_v<Body, nlohmann::json>) {
      call.body = std::move(*parsed);
    } else {
      auto body = json::decode<Body>(*parsed, unknown);
      if (!body) return body.error();
      call.body = std::move(*body);
    }
  }
  return call;
}

template <class Body, class Reply, class Query>
Route describe(Router& router, const protocol::Endpoint<Body, Reply, Query>& endpoint,
               RouteOptions options) {
  Route route;
  route.verb = endpoint.verb;
  route.path = endpoint.path;
  route.max_body = options.max_body;
  route.takes_json = !std::is_same_v<Body, protocol::Nothing>;
  route.doc.summary = endpoint.summary;
  route.doc.role = role_name(endpoint.role);
  route.doc.success = endpoint.success;
  route.doc.parameters = query_parameters<Query>(router.schemas());
  if (route.takes_json) route.doc.body = schema_of<Body>(router.schemas());
  route.doc.reply = schema_of<Reply>(router.schemas());
  return route;
}

// `function`: Result<Reply>, Result<Answer<Reply>> or Response from `const Call<Body, Query>&`.
template <class Body, class Reply, class Query, class Function>
void add(Router& router, const protocol::Endpoint<Body, Reply, Query>& endpoint,
         boost::asio::any_io_executor where, Function function, RouteOptions options = {}) {
  Route route = describe(router, endpoint, options);
  const int success = endpoint.success;
  auto work = [function = std::move(function), options, success](const Request& request) {
    auto call = decode_call<Body, Query>(request, options.unknown);
    if (!call) return problem(call.error(), request.path);
    auto outcome = function(*call);
    if constexpr (std::same_as<decltype(outcome), Response>) {
      return outcome;
    } else {
      if (!outcome) return refused(outcome.error(), request);
      if constexpr (std::same_as<decltype(outcome), Result<Answer<Reply>>>) {
        Response response = json_response(outcome->status == 0 ? success : outcome->status,
                                          json::encode(outcome->reply));
        response.headers = std::move(outcome->headers);
        return response;
      } else {
        return json_response(success, json::encode(*outcome));
      }
    }
  };
  route.handler = on_thread(std::move(where), std::move(work));
  router.add(std::move(route));
}

}  // namespace rackmark::http
