#include "cli/spec_options.hpp"

#include <CLI/CLI.hpp>

#include "cli/context.hpp"
#include "common/domain/spec.hpp"

namespace rackmark::cli {
namespace {

std::string group_of(const std::string& path) {
  const auto dot = path.find('.');
  return "Spec: " + (dot == path.npos ? std::string("job") : path.substr(0, dot));
}

std::string help_of(const SpecField& field) {
  std::string help = field.help;
  if (!field.default_value.is_null() && field.type != "map" && field.default_value != "") {
    help += " Default: " + (field.default_value.is_string() ? field.default_value.get<std::string>()
                                                            : field.default_value.dump());
  } else if (!field.default_text.empty()) {
    help += " Default: " + field.default_text;
  }
  if (!field.available) help += " (not in this version)";
  return help;
}

std::string placeholder(const SpecField& field) {
  if (field.type == "map") return "KEY=VALUE ...";
  if (field.type == "boolean") return "true|false";
  if (field.type == "enum") {
    std::string all;
    for (const auto& name : field.values) all += (all.empty() ? "" : "|") + name;
    return all;
  }
  if (field.type == "string") return "TEXT";
  return field.unit.empty() ? "NUMBER" : "NUMBER (" + field.unit + ")";
}

Json value_of(const SpecField& field, const std::vector<std::string>& texts) {
  if (field.type == "map") {
    Json map = Json::object();
    for (const auto& text : texts) {
      const auto equals = text.find('=');
      if (equals == text.npos) {
        throw BadUsage("--" + field.path + ": '" + text + "' is not KEY=VALUE");
      }
      map[text.substr(0, equals)] = text.substr(equals + 1);
    }
    return map;
  }
  const std::string& text = texts.back();
  if (field.type == "string" || field.type == "enum") return text;
  const auto parsed = json::parse(text);
  return parsed ? *parsed : Json(text);
}

}  // namespace

void add_spec_options(CLI::App& command, SpecOptions& options) {
  for (const auto& field : spec_fields()) {
    auto* option = command.add_option_function<std::vector<std::string>>(
        "--" + field.path,
        [&options, path = field.path](const std::vector<std::string>& texts) {
          options.given[path] = texts;
        },
        help_of(field));
    option->group(group_of(field.path))->type_name(placeholder(field))->expected(1);
    if (field.type == "map") {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
  }
}

void apply_spec_options(const SpecOptions& options, Json& spec) {
  for (const auto& field : spec_fields()) {
    const auto it = options.given.find(field.path);
    if (it == options.given.end()) continue;
    Json* at = &spec;
    std::size_t start = 0;
    for (auto dot = field.path.find('.'); dot != std::string::npos;
         dot = field.path.find('.', start)) {
      at = &(*at)[field.path.substr(start, dot - start)];
      if (!at->is_object() && !at->is_null()) {
        throw BadUsage("--" + field.path + ": '" + field.path.substr(0, dot) +
                       "' is not an object in the file");
      }
      start = dot + 1;
    }
    (*at)[field.path.substr(start)] = value_of(field, it->second);
  }
}

}  // namespace rackmark::cli
