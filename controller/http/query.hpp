// Query parameters as a described struct. A parameter that the struct does not have, one given
// twice, or one of the wrong type is kMalformed (400) with the field named.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/json/described.hpp"
#include "common/protocol/endpoint.hpp"

namespace rackmark::http {

enum class QueryType { kString, kInteger, kNumber, kBoolean };
using QueryPairs = std::vector<std::pair<std::string, std::string>>;

// Texts to a JSON object with the types of `members`.
Result<nlohmann::json> query_to_json(const QueryPairs& query,
                                     const std::vector<std::pair<std::string, QueryType>>& members);

std::string_view role_name(protocol::Role role);

template <class T>
constexpr QueryType query_type() {
  if constexpr (json::detail::is_optional<T>::value) {
    return query_type<typename T::value_type>();
  } else if constexpr (std::is_same_v<T, bool>) {
    return QueryType::kBoolean;
  } else if constexpr (std::is_integral_v<T>) {
    return QueryType::kInteger;
  } else if constexpr (std::is_floating_point_v<T>) {
    return QueryType::kNumber;
  } else {
    static_assert(std::is_same_v<T, std::string>, "queries hold strings, numbers and booleans");
    return QueryType::kString;
  }
}

template <class Query>
Result<Query> decode_query(const QueryPairs& query) {
  std::vector<std::pair<std::string, QueryType>> members;
  boost::mp11::mp_for_each<json::detail::members<Query>>([&](auto d) {
    using Member = std::remove_cvref_t<decltype(std::declval<Query&>().*d.pointer)>;
    members.emplace_back(d.name, query_type<Member>());
  });
  auto object = query_to_json(query, members);
  if (!object) return object.error();
  return json::decode<Query>(*object, json::Unknown::kRefuse);
}

}  // namespace rackmark::http
