// JSON Schema (2020-12) of a described struct, made from its types: what json::encode would write.
// Structs become entries of `schemas` under their own names and are referred to.
#pragma once

#include <boost/core/demangle.hpp>
#include <string>
#include <typeinfo>

#include "common/json/described.hpp"
#include "common/json/json.hpp"

namespace rackmark::http {

template <class T>
std::string type_name() {
  std::string name = boost::core::demangle(typeid(T).name());
  return name.substr(name.rfind(':') == std::string::npos ? 0 : name.rfind(':') + 1);
}

template <class T>
nlohmann::json schema_of(nlohmann::json& schemas);

namespace detail {

template <class T>
nlohmann::json or_null(nlohmann::json& schemas) {
  nlohmann::json inner = schema_of<T>(schemas);
  if (!inner.contains("type") || !inner["type"].is_string()) {
    return {{"anyOf", {inner, {{"type", "null"}}}}};
  }
  inner["type"] = nlohmann::json::array({inner["type"], "null"});
  if (inner.contains("enum")) inner["enum"].push_back(nullptr);
  return inner;
}

template <class T>
nlohmann::json reference(nlohmann::json& schemas) {
  const std::string name = type_name<T>();
  if (!schemas.contains(name)) {
    schemas[name] = nullptr;  // reserved: a type may hold itself
    nlohmann::json properties = nlohmann::json::object();
    boost::mp11::mp_for_each<json::detail::members<T>>([&](auto d) {
      using Member = std::remove_cvref_t<decltype(std::declval<T&>().*d.pointer)>;
      properties[d.name] = schema_of<Member>(schemas);
    });
    schemas[name] = {{"type", "object"}, {"properties", properties}};
  }
  return {{"$ref", "#/components/schemas/" + name}};
}

}  // namespace detail

template <class T>
nlohmann::json schema_of(nlohmann::json& schemas) {
  using nlohmann::json;
  namespace described = rackmark::json::detail;
  if constexpr (std::is_same_v<T, json>) {
    return json::object();  // anything
  } else if constexpr (described::is_optional<T>::value) {
    return detail::or_null<typename T::value_type>(schemas);
  } else if constexpr (std::is_same_v<T, bool>) {
    return {{"type", "boolean"}};
  } else if constexpr (std::is_same_v<T, std::string>) {
    return {{"type", "string"}};
  } else if constexpr (std::is_enum_v<T>) {
    return {{"type", "string"}, {"enum", rackmark::json::enum_names<T>()}};
  } else if constexpr (std::is_floating_point_v<T>) {
    return {{"type", "number"}};
  } else if constexpr (std::is_integral_v<T>) {
    return {{"type", "integer"}};
  } else if constexpr (described::is_vector<T>::value) {
    return {{"type", "array"}, {"items", schema_of<typename T::value_type>(schemas)}};
  } else if constexpr (described::is_string_map<T>::value) {
    return {{"type", "object"},
            {"additionalProperties", schema_of<typename T::mapped_type>(schemas)}};
  } else {
    return detail::reference<T>(schemas);
  }
}

// Members of a query struct as OpenAPI parameters.
template <class Query>
nlohmann::json query_parameters(nlohmann::json& schemas) {
  nlohmann::json out = nlohmann::json::array();
  const Query defaults{};
  boost::mp11::mp_for_each<json::detail::members<Query>>([&](auto d) {
    using Member = std::remove_cvref_t<decltype(std::declval<Query&>().*d.pointer)>;
    nlohmann::json schema;
    if constexpr (json::detail::is_optional<Member>::value) {
      schema = schema_of<typename Member::value_type>(schemas);
    } else {
      schema = schema_of<Member>(schemas);
      schema["default"] = json::encode(defaults.*d.pointer);
    }
    out.push_back({{"name", d.name}, {"in", "query"}, {"required", false}, {"schema", schema}});
  });
  return out;
}

}  // namespace rackmark::http
