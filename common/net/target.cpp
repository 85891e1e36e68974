#include "common/net/target.hpp"

#include <algorithm>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>
#include <cctype>
#include <charconv>

namespace rackmark::net {

std::string BaseUrl::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return name + ":" + std::to_string(port);
}

std::string BaseUrl::text() const { return "http://" + authority(); }

// By hand: Boost.URL 1.81 takes "127.0.0.1.evil.example" for the address that it begins with, and
// port 99999 for 34463.
std::optional<Authority> parse_authority(std::string_view text) {
  Authority out;
  const bool bracketed = text.starts_with('[');
  const auto end = text.find(bracketed ? ']' : ':');
  if (bracketed && end == std::string_view::npos) return std::nullopt;
  out.host = text.substr(bracketed ? 1 : 0, bracketed ? end - 1 : end);
  std::transform(out.host.begin(), out.host.end(), out.host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::string_view allowed =
      bracketed ? "0123456789abcdef:." : "0123456789abcdefghijklmnopqrstuvwxyz-._";
  if (out.host.empty() || out.host.find_first_not_of(allowed) != std::string::npos) {
    return std::nullopt;
  }
  const std::string_view rest =
      end == std::string_view::npos ? "" : text.substr(end + (bracketed ? 1 : 0));
  if (rest.empty()) return out;
  std::uint16_t port = 0;
  const auto [last, ec] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), port);
  if (rest.front() != ':' || ec != std::errc{} || last != rest.data() + rest.size()) {
    return std::nullopt;
  }
  out.port = port;
  return out;
}

Result<BaseUrl> parse_base_url(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  const auto refuse = [&](std::string detail) {
    return invalid("url", std::string(text), "http://host:port", std::move(detail));
  };
  if (text.starts_with("https://")) {
    return refuse("https is not in this version yet, allowed: http://host:port");
  }
  std::string_view rest = text.substr(std::min(text.size(), kScheme.size()));
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto authority = parse_authority(rest);
  if (!text.starts_with(kScheme) || !authority || authority->port == 0) {
    return refuse("'" + std::string(text) + "' is not an address like http://127.0.0.1:8780");
  }
  return BaseUrl{authority->host, authority->port.value_or(80)};
}

std::string expand_path(std::string_view path_template, const PathParams& params) {
  std::string path;
  std::size_t next = 0;
  for (std::size_t i = 0; i < path_template.size(); ++i) {
    if (path_template[i] != '{') {
      path += path_template[i];
      continue;
    }
    i = path_template.find('}', i);
    path += std::to_string(params.values.at(next++));
  }
  return path;
}

std::string percent_encode(std::string_view text) {
  return boost::urls::encode(text, boost::urls::unreserved_chars);
}

std::string query_string(const nlohmann::json& query, const nlohmann::json& defaults) {
  std::string out;
  for (const auto& [name, value] : query.items()) {
    if (value.is_null() || (defaults.contains(name) && defaults.at(name) == value)) continue;
    out += (out.empty() ? "?" : "&") + percent_encode(name) + "=";
    out += percent_encode(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return out;
}

}  // namespace rackmark::net
