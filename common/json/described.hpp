// Structs described with Boost.Describe to and from JSON, without a line of code per struct.
//
// Encoding: members in declaration order under their own names; enumerators `kOutOfMemory` become
// "out_of_memory"; std::optional without a value becomes null (a missing number is null, never 0).
// Decoding: missing members keep their default; null clears an optional; a wrong type is refused
// with the path of the member. What people write is decoded with Unknown::kRefuse, what
// neighbouring versions of our own programs send with Unknown::kIgnore.
#pragma once

#include <boost/describe.hpp>
#include <boost/mp11.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "common/error.hpp"
#include "common/json/json.hpp"

namespace rackmark::json {

using nlohmann::json;

enum class Unknown { kRefuse, kIgnore };

// "kOutOfMemory" -> "out_of_memory".
std::string wire_name(std::string_view enumerator);

template <class E>
std::string enum_name(E value) {
  std::string name;
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>([&](auto d) {
    if (d.value == value) name = wire_name(d.name);
  });
  return name;
}

template <class E>
std::optional<E> enum_from(std::string_view name) {
  std::optional<E> found;
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>([&](auto d) {
    if (wire_name(d.name) == name) found = d.value;
  });
  return found;
}

// "queued, running, failed": for error texts and schemas.
template <class E>
std::vector<std::string> enum_names() {
  std::vector<std::string> names;
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>(
      [&](auto d) { names.push_back(wire_name(d.name)); });
  return names;
}

namespace detail {

template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};
template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};
template <class T>
struct is_string_map : std::false_type {};
template <class T>
struct is_string_map<std::map<std::string, T>> : std::true_type {};

template <class T>
using members = boost::describe::describe_members<T, boost::describe::mod_any_access |
                                                         boost::describe::mod_inherited>;

FieldProblem wrong_type(const std::string& path, const json& value, std::string allowed);
std::string joined(const std::vector<std::string>& names);
inline std::string child(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : path + "." + std::string(name);
}

template <class T>
void decode_into(const json& from, T& into, Unknown unknown, const std::string& path,
                 std::vector<FieldProblem>& problems);

template <class T>
void decode_number(const json& from, T& into, const std::string& path,
                   std::vector<FieldProblem>& problems) {
  if constexpr (std::is_floating_point_v<T>) {
    if (!from.is_number()) return problems.push_back(wrong_type(path, from, "a number"));
    into = from.get<T>();
  } else {
    const bool whole =
        from.is_number_integer() ||
        (from.is_number_float() && std::nearbyint(from.get<double>()) == from.get<double>() &&
         std::abs(from.get<double>()) < 9e15);
    if (!whole) return problems.push_back(wrong_type(path, from, "a whole number"));
    const bool huge = from.is_number_unsigned() &&
                      from.get<std::uint64_t>() >
                          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const std::int64_t value = huge ? 0 : from.get<std::int64_t>();
    const bool negative = std::is_unsigned_v<T> && value < 0;
    if (huge || negative ||
        (sizeof(T) < 8 && (value < static_cast<std::int64_t>(std::numeric_limits<T>::min()) ||
                           value > static_cast<std::int64_t>(std::numeric_limits<T>::max())))) {
      return problems.push_back(wrong_type(path, from, "a whole number in range"));
    }
    into = static_cast<T>(value);
  }
}

template <class T>
void decode_struct(const json& from, T& into, Unknown unknown, const std::string& path,
                   std::vector<FieldProblem>& problems) {
  if (!from.is_object()) return problems.push_back(wrong_type(path, from, "an object"));
  std::vector<std::string> known;
  boost::mp11::mp_for_each<members<T>>([&](auto d) {
    known.emplace_back(d.name);
    if (const auto it = from.find(d.name); it != from.end()) {
      decode_into(*it, into.*d.pointer, unknown, child(path, d.name), problems);
    }
  });
  if (unknown == Unknown::kIgnore) return;
  for (const auto& [name, value] : from.items()) {
    bool found = false;
    for (const auto& k : known) found = found || k == name;
    if (!found) {
      problems.push_back(
          {child(path, name), value, joined(known), "unknown field '" + child(path, name) + "'"});
    }
  }
}

template <class T>
void decode_into(const json& from, T& into, Unknown unknown, const std::string& path,
                 std::vector<FieldProblem>& problems) {
  if constexpr (std::is_same_v<T, json>) {
    into = from;
  } else if constexpr (is_optional<T>::value) {
    if (from.is_null()) {
      into.reset();
    } else {
      typename T::value_type value{};
      decode_into(from, value, unknown, path, problems);
      into = std::move(value);
    }
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!from.is_boolean()) return problems.push_back(wrong_type(path, from, "true or false"));
    into = from.get<bool>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!from.is_string()) return problems.push_back(wrong_type(path, from, "a string"));
    into = from.get<std::string>();
  } else if constexpr (std::is_enum_v<T>) {
    const auto value =
        from.is_string() ? enum_from<T>(from.template get<std::string>()) : std::nullopt;
    if (!value)
      return problems.push_back(wrong_type(path, from, "one of " + joined(enum_names<T>())));
    into = *value;
  } else if constexpr (std::is_arithmetic_v<T>) {
    decode_number(from, into, path, problems);
  } else if constexpr (is_vector<T>::value) {
    if (!from.is_array()) return problems.push_back(wrong_type(path, from, "an array"));
    into.clear();
    for (std::size_t i = 0; i < from.size(); ++i) {
      typename T::value_type value{};
      decode_into(from[i], value, unknown, path + "[" + std::to_string(i) + "]", problems);
      into.push_back(std::move(value));
    }
  } else if constexpr (is_string_map<T>::value) {
    if (!from.is_object()) return problems.push_back(wrong_type(path, from, "an object"));
    into.clear();
    for (const auto& [name, member] : from.items()) {
      decode_into(member, into[name], unknown, child(path, name), problems);
    }
  } else {
    decode_struct(from, into, unknown, path, problems);
  }
}

}  // namespace detail

template <class T>
json encode(const T& value) {
  if constexpr (std::is_same_v<T, json>) {
    return value;
  } else if constexpr (detail::is_optional<T>::value) {
    return value ? encode(*value) : json(nullptr);
  } else if constexpr (std::is_enum_v<T>) {
    return enum_name(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return std::isfinite(value) ? json(value) : json(nullptr);  // JSON has no NaN: it is null
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
    return value;
  } else if constexpr (detail::is_vector<T>::value) {
    json out = json::array();
    for (const auto& element : value)
      out.push_back(encode(static_cast<const typename T::value_type&>(element)));
    return out;
  } else if constexpr (detail::is_string_map<T>::value) {
    json out = json::object();
    for (const auto& [name, member] : value) out[name] = encode(member);
    return out;
  } else {
    json out = json::object();
    boost::mp11::mp_for_each<detail::members<T>>(
        [&](auto d) { out[d.name] = encode(value.*d.pointer); });
    return out;
  }
}

// All problems at once, kInvalid; never throws on any JSON value.
template <class T>
Result<T> decode(const json& from, Unknown unknown) {
  T value{};
  std::vector<FieldProblem> problems;
  detail::decode_into(from, value, unknown, "", problems);
  if (problems.empty()) return value;
  std::string message = problems.front().detail + ", allowed: " + problems.front().allowed;
  return Error{ErrorCode::kInvalid, std::move(message), std::move(problems)};
}

// Text to JSON; kMalformed with the byte offset when it is not JSON. Depth is limited (64).
Result<json> parse(std::string_view text);

}  // namespace rackmark::json

// Making an encoder and a decoder from a description costs seconds of compile time for a large
// struct, so each is made once, in the source file that says RACKMARK_JSON_HERE; the header that
// declares the struct says RACKMARK_JSON_ELSEWHERE. Both at global scope.
#define RACKMARK_JSON_ELSEWHERE(T)                                                     \
  extern template nlohmann::json rackmark::json::encode<T>(const T&);                  \
  extern template rackmark::Result<T> rackmark::json::decode<T>(const nlohmann::json&, \
                                                                rackmark::json::Unknown);
#define RACKMARK_JSON_HERE(T)                                                   \
  template nlohmann::json rackmark::json::encode<T>(const T&);                  \
  template rackmark::Result<T> rackmark::json::decode<T>(const nlohmann::json&, \
                                                         rackmark::json::Unknown);
