// Query parameters as a described struct. A parameter that the struct does not have, one given
// twice, or one of the wrong type is kMalformed (400) with the field named.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/json/described.hpp"
#include "common/protocol/endpoint.hpp"

namespace rackmark::http {

using QueryPairs = std::vector<std::pair<std::string, std::string>>;

// Texts to a JSON object with the types of the members of `query_struct`.
Result<nlohmann::json> query_to_json(const QueryPairs& query, const json::Type& query_struct);

std::string_view role_name(protocol::Role role);

// Texts, numbers and truth values, each perhaps optional.
constexpr bool fits_a_query(const json::Type& query_struct) {
  for (const auto& member : query_struct.members) {
    const auto& type = member.type->kind == json::Kind::kOptional ? *member.type->of : *member.type;
    if (type.kind != json::Kind::kString && type.kind != json::Kind::kInteger &&
        type.kind != json::Kind::kNumber && type.kind != json::Kind::kBoolean) {
      return false;
    }
  }
  return true;
}

template <class Query>
Result<Query> decode_query(const QueryPairs& query) {
  static_assert(fits_a_query(json::type_of<Query>));
  auto object = query_to_json(query, json::type_of<Query>);
  if (!object) return object.error();
  return json::decode<Query>(*object, json::Unknown::kRefuse);
}

}  // namespace rackmark::http
