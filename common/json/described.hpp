// Structs described with Boost.Describe to and from JSON, without a line of code per struct.
//
// Encoding: members in declaration order under their own names; enumerators `kOutOfMemory` become
// "out_of_memory"; std::optional without a value becomes null (a missing number is null, never 0).
// Decoding: missing members keep their default; null clears an optional; a wrong type is refused
// with the path of the member. What people write is decoded with Unknown::kRefuse, what
// neighbouring versions of our own programs send with Unknown::kIgnore.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.hpp"
#include "common/json/json.hpp"
#include "common/json/type.hpp"

namespace rackmark::json {

template <class E>
std::string enum_name(E value) {
  return enum_name(type_of<E>, static_cast<std::int64_t>(value));
}

template <class E>
std::optional<E> enum_from(std::string_view name) {
  const auto value = enum_from(type_of<E>, name);
  return value ? std::optional(static_cast<E>(*value)) : std::nullopt;
}

// "queued", "running", "failed": for error texts and schemas.
template <class E>
std::vector<std::string> enum_names() {
  return enum_names(type_of<E>);
}

template <class T>
json encode(const T& value) {
  return type_of<T>.encode(type_of<T>, &value);
}

// All problems at once, kInvalid; never throws on any JSON value.
template <class T>
Result<T> decode(const json& from, Unknown unknown) {
  T value{};
  if (auto error = decode_into(type_of<T>, from, &value, unknown)) return *std::move(error);
  return value;
}

// Text to JSON; kMalformed with the byte offset when it is not JSON. Depth is limited (64).
Result<json> parse(std::string_view text);

}  // namespace rackmark::json
