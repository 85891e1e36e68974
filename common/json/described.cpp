#include "common/json/described.hpp"

namespace rackmark::json {

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
