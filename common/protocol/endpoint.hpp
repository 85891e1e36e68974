// One constant per route: verb, path, types of query, body and reply. The controller routes and
// writes openapi.json from them; the cli, the agent and the tests call through the same constants.
#pragma once

#include <boost/describe.hpp>
#include <string_view>

namespace rackmark::protocol {

enum class Verb { kGet, kPost, kPut, kDelete };

struct Nothing {};
BOOST_DESCRIBE_STRUCT(Nothing, (), ())

// Who may call. On a loopback bind people need no token; agents always do.
enum class Role { kPublic, kViewer, kSubmitter, kAdmin, kAgent };

// Path parameters are written {name}; a verb is ":cancel" at the end. Query members are strings,
// numbers, booleans or optionals of these.
template <class Body, class Reply, class Query = Nothing>
struct Endpoint {
  Verb verb;
  std::string_view path;
  std::string_view summary;  // one sentence for openapi.json
  Role role = Role::kViewer;
  int success = 200;
};

}  // namespace rackmark::protocol
