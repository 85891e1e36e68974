#include "controller/http/host_policy.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cctype>

#include "common/net/target.hpp"

namespace rackmark::http {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

bool is_known(const std::string& host, const HostPolicy& policy) {
  if (host == "localhost") return true;
  boost::system::error_code ec;
  const auto address = boost::asio::ip::make_address(host, ec);
  if (!ec && (address.is_loopback() || policy.any_address)) return true;
  return std::any_of(policy.names.begin(), policy.names.end(),
                     [&](const std::string& name) { return lower(name) == host; });
}

bool is_own_origin(std::string_view origin, std::string_view host_header,
                   const HostPolicy& policy) {
  const auto scheme_end = origin.find("://");
  if (scheme_end == std::string_view::npos) return false;  // "null" and worse
  const std::string_view rest = origin.substr(scheme_end + 3);
  if (lower(rest) == lower(host_header)) return true;
  const auto authority = net::parse_authority(rest);
  return authority && std::any_of(policy.names.begin(), policy.names.end(),
                                  [&](const auto& name) { return lower(name) == authority->host; });
}

}  // namespace

std::optional<Error> check_host(const Request& request, const HostPolicy& policy) {
  const auto hosts = std::count_if(request.headers.begin(), request.headers.end(),
                                   [](const auto& h) { return lower(h.first) == "host"; });
  const std::string_view host = request.header("Host");
  const auto authority = net::parse_authority(host);
  if (hosts != 1 || !authority) {
    return Error{ErrorCode::kMalformed, "exactly one valid Host header is needed", {}};
  }
  if (!is_known(authority->host, policy)) {
    return Error{ErrorCode::kForbidden,
                 "host '" + authority->host + "' is not served here (see --host-name)",
                 {}};
  }
  const bool safe = request.method == "GET" || request.method == "HEAD";
  const std::string_view origin = request.header("Origin");
  if (!safe && !origin.empty() && !is_own_origin(origin, host, policy)) {
    return Error{ErrorCode::kForbidden,
                 "origin '" + std::string(origin) + "' may not change anything here",
                 {}};
  }
  return std::nullopt;
}

}  // namespace rackmark::http
