#include "controller/http/message.hpp"

#include <algorithm>
#include <cctype>

#include "common/json/described.hpp"
#include "common/net/problem.hpp"

namespace rackmark::http {
namespace {

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

Response to_response(const protocol::Problem& problem) {
  Response response;
  response.status = problem.status;
  response.content_type = "application/problem+json";
  response.body = json::encode(problem).dump(-1, ' ', false, json::json::error_handler_t::replace);
  return response;
}

}  // namespace

std::string_view Request::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (same_name(key, name)) return value;
  }
  return {};
}

bool Request::has_header(std::string_view name) const {
  return std::any_of(headers.begin(), headers.end(),
                     [&](const auto& header) { return same_name(header.first, name); });
}

Response problem(const Error& error, std::string_view instance) {
  Response response = to_response(net::to_problem(error, instance));
  if (error.code == ErrorCode::kUnauthorized)
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.code == ErrorCode::kUnavailable) response.headers.emplace_back("Retry-After", "1");
  return response;
}

Response problem(int status, std::string detail, std::string_view instance) {
  protocol::Problem problem;
  problem.status = status;
  problem.title = net::title_of(status);
  problem.detail = std::move(detail);
  problem.instance = instance;
  return to_response(problem);
}

std::string media_type(std::string_view header) {
  header = header.substr(0, header.find(';'));
  while (!header.empty() && std::isspace(static_cast<unsigned char>(header.back())))
    header.remove_suffix(1);
  while (!header.empty() && std::isspace(static_cast<unsigned char>(header.front())))
    header.remove_prefix(1);
  std::string out(header);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace rackmark::http
