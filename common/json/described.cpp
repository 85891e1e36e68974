#include "common/json/described.hpp"

#include <cctype>

namespace rackmark::json {

std::string wire_name(std::string_view enumerator) {
  std::string out;
  for (std::size_t i = enumerator.size() > 1 && enumerator[0] == 'k' &&
                               std::isupper(static_cast<unsigned char>(enumerator[1]))
                           ? 1
                           : 0;
       i < enumerator.size(); ++i) {
    const auto c = static_cast<unsigned char>(enumerator[i]);
    if (std::isupper(c) && !out.empty()) out += '_';
    out += static_cast<char>(std::tolower(c));
  }
  return out;
}

namespace detail {

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

FieldProblem wrong_type(const std::string& path, const json& value, std::string allowed) {
  std::string shown = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
  return {path, value, std::move(allowed),
          "field '" + (path.empty() ? "(body)" : path) + "' is " + shown};
}

}  // namespace detail

Result<json> parse(std::string_view text) {
  constexpr int kMaxDepth = 64;
  bool too_deep = false;
  const auto limit_depth = [&](int depth, json::parse_event_t, json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  try {
    json value = json::parse(text, limit_depth);
    if (too_deep) return Error{ErrorCode::kMalformed, "JSON is nested deeper than 64 levels", {}};
    return Result<json>(boost::system::in_place_value,
                        std::move(value));  // json converts to anything
  } catch (const json::parse_error& error) {
    return Error{ErrorCode::kMalformed, "not JSON at byte " + std::to_string(error.byte), {}};
  } catch (const json::exception&) {  // a number that no double holds
    return Error{ErrorCode::kMalformed, "JSON with a number out of range", {}};
  }
}

}  // namespace rackmark::json
