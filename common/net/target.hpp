// Addresses: the base URL of a controller, and request targets made from an endpoint's path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.hpp"
#include "common/json/json.hpp"

namespace rackmark::net {

struct BaseUrl {
  std::string host = "127.0.0.1";  // without brackets
  std::uint16_t port = 8780;
  std::string text() const;       // "http://127.0.0.1:8780"
  std::string authority() const;  // the Host header
};
// "name", "name:port", "[v6]:port"; the name in lower case, without brackets. nullopt for anything
// else, also for a port that does not fit.
struct Authority {
  std::string host;
  std::optional<std::uint16_t> port;
};
std::optional<Authority> parse_authority(std::string_view text);

// "http://host[:port][/]"; port 80 when it is not said. kInvalid for https (not in this version),
// a path, user names and anything else.
Result<BaseUrl> parse_base_url(std::string_view text);

// Values for {name} in a path, in order. Every path of this API takes ids: `client.call(kShowJob,
// 42)`.
struct PathParams {
  PathParams() = default;
  PathParams(std::int64_t id) : values{id} {}  // NOLINT: implicit on purpose
  std::vector<std::int64_t> values;
};
std::string expand_path(std::string_view path_template, const PathParams& params);

// "?state=queued&limit=5" of the members of `query` that are neither null nor as in `defaults`; ""
// when none is left.
std::string query_string(const nlohmann::json& query, const nlohmann::json& defaults);

std::string percent_encode(std::string_view text);

}  // namespace rackmark::net
