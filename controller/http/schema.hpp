// JSON Schema (2020-12) of a described type: what json::encode would write.
// Structs become entries of `schemas` under their own names and are referred to.
#pragma once

#include "common/json/described.hpp"
#include "common/json/json.hpp"

namespace rackmark::http {

nlohmann::json schema_of(const json::Type& type, nlohmann::json& schemas);

// Members of a query struct as OpenAPI parameters; `defaults` points to a fresh one.
nlohmann::json query_parameters(const json::Type& query, const void* defaults,
                                nlohmann::json& schemas);

template <class T>
nlohmann::json schema_of(nlohmann::json& schemas) {
  return schema_of(json::type_of<T>, schemas);
}

template <class Query>
nlohmann::json query_parameters(nlohmann::json& schemas) {
  const Query defaults{};
  return query_parameters(json::type_of<Query>, &defaults, schemas);
}

}  // namespace rackmark::http
