#include "controller/http/query.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace rackmark::http {
namespace {

template <class T>
Json number_or_null(const std::string& text) {
  T value{};
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || end != text.data() + text.size()) return nullptr;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return nullptr;
  }
  return value;
}

// Null when the text is not of that kind.
Json typed(const std::string& text, json::Kind kind) {
  switch (kind) {
    case json::Kind::kInteger:
      return number_or_null<std::int64_t>(text);
    case json::Kind::kNumber:
      return number_or_null<double>(text);
    case json::Kind::kBoolean:
      if (text == "true" || text == "1") return true;
      if (text == "false" || text == "0") return false;
      return nullptr;
    default:
      return text;
  }
}

std::string allowed_text(json::Kind kind) {
  switch (kind) {
    case json::Kind::kInteger:
      return "a whole number";
    case json::Kind::kNumber:
      return "a number";
    case json::Kind::kBoolean:
      return "true or false";
    default:
      return "text";
  }
}

json::Kind kind_of(const json::Member& member) {
  return member.type->kind == json::Kind::kOptional ? member.type->of->kind : member.type->kind;
}

}  // namespace

Result<Json> query_to_json(const QueryPairs& query, const json::Type& query_struct) {
  Json object = Json::object();
  std::vector<FieldProblem> problems;
  const auto members = query_struct.members;
  for (const auto& [name, text] : query) {
    const auto member =
        std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.name == name; });
    if (member == members.end()) {
      const std::string known = json::joined(json::member_names(query_struct));
      problems.push_back(
          {name, text, known.empty() ? "none" : known, "unknown query parameter '" + name + "'"});
      continue;
    }
    Json value = typed(text, kind_of(*member));
    if (object.contains(name)) {
      problems.push_back({name, text, "once", "query parameter '" + name + "' is given twice"});
    } else if (value.is_null()) {
      const std::string allowed = allowed_text(kind_of(*member));
      problems.push_back({name, text, allowed,
                          "query parameter '" + name + "' is '" + text + "', allowed: " + allowed});
    } else {
      object[name] = std::move(value);
    }
  }
  if (problems.empty()) return Result<Json>(boost::system::in_place_value, std::move(object));
  std::string message = problems.front().detail;
  return Error{ErrorCode::kMalformed, std::move(message), std::move(problems)};
}

std::string_view role_name(protocol::Role role) {
  switch (role) {
    case protocol::Role::kPublic:
      return "public";
    case protocol::Role::kViewer:
      return "viewer";
    case protocol::Role::kSubmitter:
      return "submitter";
    case protocol::Role::kAdmin:
      return "admin";
    case protocol::Role::kAgent:
      return "agent";
  }
  return "viewer";
}

}  // namespace rackmark::http
