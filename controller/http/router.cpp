#include "controller/http/router.hpp"

#include <charconv>
#include <exception>
#include <optional>

#include "common/net/log.hpp"

namespace rackmark::http {
namespace asio = boost::asio;

namespace {

struct PathMatch {
  bool matches = false;
  std::string_view id;  // the text in place of {id}
};

// A path without {id} must be equal. With one, the text in its place may not hold '/' or ':', so
// that "/jobs/abc" is a bad id but "/jobs/1/x" and "/jobs/1:x" are unknown paths.
PathMatch match_path(std::string_view pattern, std::string_view path) {
  const auto open = pattern.find('{');
  if (open == std::string_view::npos) return {pattern == path, {}};
  const std::string_view before = pattern.substr(0, open);
  const std::string_view after = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after)) {
    return {};
  }
  const auto id = path.substr(before.size(), path.size() - before.size() - after.size());
  return {id.find_first_of("/:") == std::string_view::npos, id};
}

std::optional<std::int64_t> parse_id(std::string_view text) {
  std::int64_t id = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), id);
  const bool whole = ec == std::errc{} && end == text.data() + text.size();
  return whole && id >= 1 && text.front() != '0' ? std::optional(id) : std::nullopt;
}

bool is_service_path(std::string_view path) {
  return path == "/api" || path.starts_with("/api/") || path == "/healthz" || path == "/readyz" ||
         path == "/metrics";
}

}  // namespace

std::string_view method_of(protocol::Verb verb) {
  switch (verb) {
    case protocol::Verb::kGet:
      return "GET";
    case protocol::Verb::kPost:
      return "POST";
    case protocol::Verb::kPut:
      return "PUT";
    case protocol::Verb::kDelete:
      return "DELETE";
  }
  return "GET";
}

struct Router::Match {
  const Route* route = nullptr;
  std::string_view id;
  bool has_id = false;
  std::string allow;  // methods of this path, when it is known under another one
};

void Router::add(Route route) { routes_.push_back(std::move(route)); }

Router::Match Router::find(std::string_view method, std::string_view path) const {
  Match found;
  for (const auto& route : routes_) {
    const PathMatch match = match_path(route.path, path);
    if (!match.matches) continue;
    const std::string_view name = method_of(route.verb);
    if (name == method || (method == "HEAD" && name == "GET")) {
      return {&route, match.id, route.path.find('{') != std::string::npos, {}};
    }
    found.allow += (found.allow.empty() ? "" : ", ") + std::string(name);
    if (name == "GET") found.allow += ", HEAD";
  }
  return found;
}

std::size_t Router::max_body(std::string_view method, std::string_view path) const {
  const Match match = find(method, path);
  return match.route != nullptr ? match.route->max_body : kMaxBody;
}

namespace {

Response unknown_path(const std::string& path) {
  return problem({ErrorCode::kNotFound, "nothing is at " + path, {}}, path);
}

Response wrong_method(const Request& request, const std::string& allow) {
  Response response = problem({ErrorCode::kMethodNotAllowed,
                               request.method + " is not allowed here, allowed: " + allow,
                               {}},
                              request.path);
  response.headers.emplace_back("Allow", allow);
  return response;
}

std::optional<Error> check_body(const Route& route, const Request& request) {
  if (request.body.size() > route.max_body) {
    return Error{ErrorCode::kTooLarge,
                 "the body is larger than " + std::to_string(route.max_body) + " bytes",
                 {}};
  }
  const std::string type = media_type(request.header("Content-Type"));
  const bool wanted = route.takes_json || !request.body.empty();
  if (wanted && route.verb != protocol::Verb::kGet && type != "application/json") {
    return Error{ErrorCode::kUnsupportedMedia,
                 "content type is '" + type + "', allowed: application/json",
                 {}};
  }
  return std::nullopt;
}

// The one boundary where an exception of a handler ends.
asio::awaitable<Response> run(const Handler& handler, Request request) {
  const std::string path = request.path;
  try {
    co_return co_await handler(std::move(request));
  } catch (const std::exception& error) {
    log::error("{}: {}", path, error.what());
  }
  co_return problem({ErrorCode::kInternal, "", {}}, path);
}

}  // namespace

asio::awaitable<Response> Router::dispatch(Request request) const {
  const std::string path = request.path;
  const Match match = find(request.method, path);
  if (match.route == nullptr) {
    if (!match.allow.empty()) co_return wrong_method(request, match.allow);
    if (is_service_path(path) || !fallback_) co_return unknown_path(path);
    if (request.method != "GET" && request.method != "HEAD") {
      co_return wrong_method(request, "GET, HEAD");
    }
    co_return co_await run(fallback_, std::move(request));
  }
  const Route& route = *match.route;
  Response response;
  if (match.has_id) request.id = parse_id(match.id);
  if (match.has_id && !request.id) {
    response = problem({ErrorCode::kMalformed,
                        "id '" + std::string(match.id) + "' is not a whole number from 1",
                        {}},
                       path);
  } else if (auto refused = check_body(route, request)) {
    response = problem(*refused, path);
  } else {
    response = co_await run(route.handler, std::move(request));
  }
  response.route = route.path;
  co_return response;
}

nlohmann::json Router::openapi() const {
  using nlohmann::json;
  const json refused{
      {"description", "Refused: RFC 9457 problem details"},
      {"content",
       {{"application/problem+json", {{"schema", {{"$ref", "#/components/schemas/Problem"}}}}}}}};
  json paths = json::object();
  for (const auto& route : routes_) {
    json parameters = route.doc.parameters;
    if (route.path.find("{id}") != std::string::npos) {
      parameters.push_back({{"name", "id"},
                            {"in", "path"},
                            {"required", true},
                            {"schema", {{"type", "integer"}, {"minimum", 1}}}});
    }
    json content = json::object();
    if (!route.doc.reply.is_null()) {
      content[route.doc.content_type] = {{"schema", route.doc.reply}};
    }
    json operation{
        {"summary", route.doc.summary},
        {"x-role", route.doc.role},
        {"parameters", parameters},
        {"responses",
         {{std::to_string(route.doc.success), {{"description", "As asked"}, {"content", content}}},
          {"default", refused}}}};
    if (!route.doc.body.is_null()) {
      operation["requestBody"] = {
          {"required", true}, {"content", {{"application/json", {{"schema", route.doc.body}}}}}};
    }
    std::string verb(method_of(route.verb));
    for (char& c : verb) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    paths[route.path][verb] = operation;
  }
  return {{"openapi", "3.1.0"},
          {"info", {{"title", "Rackmark"}, {"version", "v1"}}},
          {"paths", paths},
          {"components", {{"schemas", schemas_}}}};
}

}  // namespace rackmark::http
