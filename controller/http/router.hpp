// From a request to the route that answers it: 404, 405 with Allow, 400 for a bad id, 413, 415 are
// decided here. Routes come from Endpoint constants through typed_route.hpp, or as plain paths.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/json/json.hpp"
#include "common/protocol/endpoint.hpp"
#include "controller/http/message.hpp"

namespace rackmark::http {

inline constexpr std::size_t kMaxBody = 1u << 20;

// Arguments by value: the session awaits the answer, and the route outlives all requests.
using Handler = std::function<boost::asio::awaitable<Response>(Request)>;

// What openapi.json says of a route; schemas are JSON Schema 2020-12.
struct RouteDoc {
  std::string summary;
  std::string role;  // of the caller
  int success = 200;
  std::string content_type = "application/json";
  nlohmann::json parameters = nlohmann::json::array();  // of the query
  nlohmann::json body;                                  // null: none
  nlohmann::json reply;
};

struct Route {
  protocol::Verb verb = protocol::Verb::kGet;
  std::string path;  // "/api/v1/jobs/{id}:cancel"; {id} matches one whole number >= 1
  std::size_t max_body = kMaxBody;
  bool takes_json = false;  // a body is needed and must be application/json
  Handler handler;
  RouteDoc doc;
};

std::string_view method_of(protocol::Verb verb);

class Router {
 public:
  void add(Route route);
  // Answers everything outside /api, /healthz and the like: the web view.
  void set_fallback(Handler handler) { fallback_ = std::move(handler); }

  // Largest body that a request of this method and path may bring.
  std::size_t max_body(std::string_view method, std::string_view path) const;
  // Never throws: what a handler throws is logged and answered 500 without detail.
  boost::asio::awaitable<Response> dispatch(Request request) const;

  const std::vector<Route>& routes() const { return routes_; }
  // Shared types, name -> schema; filled by typed_route.hpp.
  nlohmann::json& schemas() { return schemas_; }
  nlohmann::json openapi() const;  // the whole document

 private:
  struct Match;
  Match find(std::string_view method, std::string_view path) const;

  std::vector<Route> routes_;
  Handler fallback_;
  nlohmann::json schemas_ = nlohmann::json::object();
};

}  // namespace rackmark::http
