#include "controller/http/schema.hpp"

#include <boost/core/demangle.hpp>
#include <string>

#include "common/protocol/query_help.hpp"

namespace rackmark::http {
namespace {

using json::Kind;
using json::Type;

// "protocol::JobView" is "JobView".
std::string own_name(const Type& type) {
  const std::string name = boost::core::demangle(type.cpp->name());
  return name.substr(name.rfind(':') == std::string::npos ? 0 : name.rfind(':') + 1);
}

Json or_null(Json schema) {
  if (!schema.contains("type") || !schema["type"].is_string()) {
    return {{"anyOf", {schema, {{"type", "null"}}}}};
  }
  schema["type"] = Json::array({schema["type"], "null"});
  if (schema.contains("enum")) schema["enum"].push_back(nullptr);
  return schema;
}

Json reference_to(const Type& type, Json& schemas) {
  const std::string name = own_name(type);
  if (!schemas.contains(name)) {
    schemas[name] = nullptr;  // reserved: a type may hold itself
    Json properties = Json::object();
    for (const auto& member : type.members) {
      properties[member.name] = schema_of(*member.type, schemas);
    }
    schemas[name] = {{"type", "object"}, {"properties", properties}};
  }
  return {{"$ref", "#/components/schemas/" + name}};
}

}  // namespace

Json schema_of(const Type& type, Json& schemas) {
  switch (type.kind) {
    case Kind::kAny:
      return Json::object();
    case Kind::kBoolean:
      return {{"type", "boolean"}};
    case Kind::kInteger:
      return {{"type", "integer"}};
    case Kind::kNumber:
      return {{"type", "number"}};
    case Kind::kString:
      return {{"type", "string"}};
    case Kind::kEnum:
      return {{"type", "string"}, {"enum", json::enum_names(type)}};
    case Kind::kOptional:
      return or_null(schema_of(*type.of, schemas));
    case Kind::kArray:
      return {{"type", "array"}, {"items", schema_of(*type.of, schemas)}};
    case Kind::kMap:
      return {{"type", "object"}, {"additionalProperties", schema_of(*type.of, schemas)}};
    case Kind::kStruct:
      return reference_to(type, schemas);
  }
  return nullptr;
}

Json query_parameters(const Type& query, const void* defaults, Json& schemas) {
  const Json values = query.encode(query, defaults);
  Json out = Json::array();
  for (const auto& member : query.members) {
    const bool optional = member.type->kind == Kind::kOptional;
    Json schema = schema_of(optional ? *member.type->of : *member.type, schemas);
    if (!optional) schema["default"] = values.at(member.name);
    out.push_back({{"name", member.name},
                   {"in", "query"},
                   {"description", protocol::query_help(member.name).help},
                   {"required", false},
                   {"schema", schema}});
  }
  return out;
}

}  // namespace rackmark::http
