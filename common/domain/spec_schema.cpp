#include "common/domain/spec_table.hpp"

namespace rackmark {
namespace {

Json number_schema(const SpecField& field, const char* type) {
  Json out = {{"type", type}};
  if (field.minimum) out["minimum"] = *field.minimum;
  if (field.maximum) out["maximum"] = *field.maximum;
  return out;
}

std::string description(const SpecField& field) {
  std::string text = field.help;
  if (!field.unit.empty()) text += " Unit: " + field.unit + ".";
  if (!field.applies_when.empty()) text += " Only when " + field.applies_when + ".";
  if (!field.default_text.empty()) text += " Default: " + field.default_text + ".";
  if (!field.available) {
    text += " Not available in this version.";
  } else if (!field.values_now.empty() && field.values_now.size() != field.values.size()) {
    text += " This version: " + allowed_now(field) + ".";
  }
  return text;
}

Json field_schema(const SpecField& field) {
  Json out;
  if (field.type == "boolean") {
    out = {{"type", "boolean"}};
  } else if (field.type == "enum") {
    out = {{"type", "string"}, {"enum", field.values}};
  } else if (field.type == "string") {
    out = {{"type", "string"}, {"maxLength", field.path == "input.path" ? 4096 : 200}};
  } else if (field.type == "map") {
    out = {{"type", "object"},
           {"maxProperties", 64},
           {"propertyNames", {{"pattern", "^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"}}},
           {"additionalProperties", {{"type", "string"}, {"maxLength", 256}}}};
  } else if (field.type == "integer_or_max") {
    out = {{"oneOf", {number_schema(field, "integer"), Json{{"const", "max"}}}}};
  } else if (field.type == "number_or_dynamic") {
    out = {{"oneOf", {number_schema(field, "number"), Json{{"const", "dynamic"}}}}};
  } else if (field.type == "repetitions") {
    const Json count = number_schema(field, "integer");
    const Json adaptive = {
        {"type", "object"},
        {"required", {"max"}},
        {"additionalProperties", false},
        {"properties",
         {{"min", count},
          {"max", count},
          {"target_rse", {{"type", "number"}, {"minimum", 0.0001}, {"maximum", 1}}},
          {"max_minutes", {{"type", "number"}, {"minimum", 1}, {"maximum", 43200}}}}}};
    out = {{"oneOf", {count, adaptive}}};
  } else {
    out = number_schema(field, field.type.c_str());
  }
  out["description"] = description(field);
  if (!field.default_value.is_null()) out["default"] = field.default_value;
  return out;
}

}  // namespace

Json spec_json_schema() {
  Json root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
               {"title", "Rackmark job spec"},
               {"type", "object"},
               {"additionalProperties", false},
               {"required", {"model"}}};
  for (const auto& field : spec_fields()) {
    Json* at = &root;
    std::size_t start = 0;
    for (auto dot = field.path.find('.'); dot != std::string::npos;
         dot = field.path.find('.', start)) {
      at = &(*at)["properties"][field.path.substr(start, dot - start)];
      (*at)["type"] = "object";
      (*at)["additionalProperties"] = false;
      start = dot + 1;
    }
    (*at)["properties"][field.path.substr(start)] = field_schema(field);
  }
  return root;
}

}  // namespace rackmark
