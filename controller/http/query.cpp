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

// Null when the text is not of that type.
Json typed(const std::string& text, QueryType type) {
  switch (type) {
    case QueryType::kString:
      return text;
    case QueryType::kInteger:
      return number_or_null<std::int64_t>(text);
    case QueryType::kNumber:
      return number_or_null<double>(text);
    case QueryType::kBoolean:
      if (text == "true" || text == "1") return true;
      if (text == "false" || text == "0") return false;
      return nullptr;
  }
  return nullptr;
}

std::string allowed_text(QueryType type) {
  switch (type) {
    case QueryType::kInteger:
      return "a whole number";
    case QueryType::kNumber:
      return "a number";
    case QueryType::kBoolean:
      return "true or false";
    default:
      return "text";
  }
}

}  // namespace

Result<Json> query_to_json(const QueryPairs& query,
                           const std::vector<std::pair<std::string, QueryType>>& members) {
  Json object = Json::object();
  std::vector<FieldProblem> problems;
  std::vector<std::string> names;
  for (const auto& member : members) names.push_back(member.first);
  for (const auto& [name, text] : query) {
    const auto member = std::find_if(members.begin(), members.end(),
                                     [&](const auto& m) { return m.first == name; });
    if (member == members.end()) {
      const std::string known = rackmark::json::detail::joined(names);
      problems.push_back(
          {name, text, known.empty() ? "none" : known, "unknown query parameter '" + name + "'"});
      continue;
    }
    Json value = typed(text, member->second);
    if (object.contains(name)) {
      problems.push_back({name, text, "once", "query parameter '" + name + "' is given twice"});
    } else if (value.is_null()) {
      const std::string allowed = allowed_text(member->second);
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
