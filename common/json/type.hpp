// What a type looks like at run time: one table for each struct, enumeration and container, made by
// the compiler from its description (Boost.Describe). Encoding, decoding, JSON schemas and query
// parameters are plain loops over these tables, compiled once for all types.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <boost/mp11.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "common/json/json.hpp"

namespace rackmark::json {

using nlohmann::json;

enum class Unknown { kRefuse, kIgnore };

enum class Kind {
  kAny,  // a JSON value as it is
  kBoolean,
  kInteger,
  kNumber,
  kString,
  kEnum,
  kOptional,
  kArray,
  kMap,  // from strings
  kStruct
};

struct Type;

struct Member {
  const char* name;
  const Type* type;
  void* (*in)(void* owner);  // the member of that owner
};

struct Enumerator {
  const char* name;  // as in the source: "kOutOfMemory"
  std::int64_t value;
};

struct Decoding {
  Unknown unknown;
  std::vector<FieldProblem> problems;
};

struct Type {
  Kind kind;
  const std::type_info* cpp;
  // `value` and `into` point to an object of that type; problems are added under `path`.
  json (*encode)(const Type& self, const void* value);
  void (*decode)(const Type& self, const json& from, void* into, const std::string& path,
                 Decoding& decoding);
  const Type* of = nullptr;                      // what an optional, an array or a map holds
  std::span<const Member> members = {};          // of a struct, in declaration order
  std::span<const Enumerator> enumerators = {};  // of an enumeration
  std::optional<std::int64_t> unknown = {};      // of an enumeration: see unknown_name below
};

// "kOutOfMemory" -> "out_of_memory".
std::string wire_name(std::string_view enumerator);

// Names are those on the wire; empty when no enumerator has that value.
std::string enum_name(const Type& type, std::int64_t value);
std::optional<std::int64_t> enum_from(const Type& type, std::string_view name);
std::vector<std::string> enum_names(const Type& type);

// The names of a struct's members, and names as "a, b, c" for error texts.
std::vector<std::string> member_names(const Type& type);
std::string joined(const std::vector<std::string>& names);

// Decodes into the object of type `type` at `into`; all problems at once, kInvalid.
std::optional<Error> decode_into(const Type& type, const json& from, void* into, Unknown unknown);

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

// What has one body for all types of a kind; in type.cpp.
json encode_any(const Type&, const void* value);
json encode_boolean(const Type&, const void* value);
json encode_string(const Type&, const void* value);
json encode_struct(const Type& self, const void* value);
void decode_any(const Type&, const json&, void*, const std::string&, Decoding&);
void decode_boolean(const Type&, const json&, void*, const std::string&, Decoding&);
void decode_string(const Type&, const json&, void*, const std::string&, Decoding&);
void decode_struct(const Type&, const json&, void*, const std::string&, Decoding&);

json encode_number(double value);
std::optional<double> number_in(const json& from, const std::string& path, Decoding& decoding);
std::optional<std::int64_t> integer_in(const json& from, std::int64_t min, std::int64_t max,
                                       const std::string& path, Decoding& decoding);
std::optional<std::int64_t> enumerator_in(const Type& self, const json& from,
                                          const std::string& path, Decoding& decoding);
bool is_array(const json& from, const std::string& path, Decoding& decoding);
bool is_object(const json& from, const std::string& path, Decoding& decoding);
std::string child(const std::string& path, std::string_view name);
std::string child(const std::string& path, std::size_t index);

template <class T>
json encode_arithmetic(const Type&, const void* value) {
  const T number = *static_cast<const T*>(value);
  if constexpr (std::is_floating_point_v<T>) {
    return encode_number(number);
  } else {
    return number;
  }
}
template <class T>
void decode_arithmetic(const Type&, const json& from, void* into, const std::string& path,
                       Decoding& decoding) {
  if constexpr (std::is_floating_point_v<T>) {
    if (const auto value = number_in(from, path, decoding)) {
      *static_cast<T*>(into) = static_cast<T>(*value);
    }
  } else {
    using Limits = std::numeric_limits<T>;
    constexpr std::int64_t kMax = std::cmp_less(Limits::max(), INT64_MAX)
                                      ? static_cast<std::int64_t>(Limits::max())
                                      : INT64_MAX;
    if (const auto value = integer_in(from, Limits::min(), kMax, path, decoding)) {
      *static_cast<T*>(into) = static_cast<T>(*value);
    }
  }
}

template <class E>
json encode_enum(const Type& self, const void* value) {
  return enum_name(self, static_cast<std::int64_t>(*static_cast<const E*>(value)));
}
template <class E>
void decode_enum(const Type& self, const json& from, void* into, const std::string& path,
                 Decoding& decoding) {
  if (const auto value = enumerator_in(self, from, path, decoding)) {
    *static_cast<E*>(into) = static_cast<E>(*value);
  }
}

template <class T>
json encode_optional(const Type& self, const void* value) {
  const auto& optional = *static_cast<const std::optional<T>*>(value);
  return optional ? self.of->encode(*self.of, &*optional) : json(nullptr);
}
template <class T>
void decode_optional(const Type& self, const json& from, void* into, const std::string& path,
                     Decoding& decoding) {
  auto& optional = *static_cast<std::optional<T>*>(into);
  if (from.is_null()) return optional.reset();
  T value{};
  self.of->decode(*self.of, from, &value, path, decoding);
  optional = std::move(value);
}

template <class T>
json encode_vector(const Type& self, const void* value) {
  json out = json::array();
  for (const auto& element : *static_cast<const std::vector<T>*>(value)) {
    const T& whole = element;  // a bool of std::vector<bool> has no address
    out.push_back(self.of->encode(*self.of, &whole));
  }
  return out;
}
template <class T>
void decode_vector(const Type& self, const json& from, void* into, const std::string& path,
                   Decoding& decoding) {
  if (!is_array(from, path, decoding)) return;
  auto& elements = *static_cast<std::vector<T>*>(into);
  elements.clear();
  for (const auto& member : from) {
    T value{};
    self.of->decode(*self.of, member, &value, child(path, elements.size()), decoding);
    elements.push_back(std::move(value));
  }
}

template <class T>
json encode_map(const Type& self, const void* value) {
  json out = json::object();
  for (const auto& [name, member] : *static_cast<const std::map<std::string, T>*>(value)) {
    out[name] = self.of->encode(*self.of, &member);
  }
  return out;
}
template <class T>
void decode_map(const Type& self, const json& from, void* into, const std::string& path,
                Decoding& decoding) {
  if (!is_object(from, path, decoding)) return;
  auto& entries = *static_cast<std::map<std::string, T>*>(into);
  entries.clear();
  for (const auto& [name, member] : from.items()) {
    self.of->decode(*self.of, member, &entries[name], child(path, name), decoding);
  }
}

template <class T>
constexpr Type make_type();

}  // namespace detail

// The table of T: a described struct or enumeration, a number, bool, std::string, JSON value, or an
// std::optional, std::vector or std::map from strings of these.
template <class T>
inline constexpr Type type_of = detail::make_type<T>();

namespace detail {

template <class T, auto kPointer>
void* member_in(void* owner) {
  return &(static_cast<T*>(owner)->*kPointer);
}
template <class T, class... D>
constexpr std::array<Member, sizeof...(D)> make_members(boost::mp11::mp_list<D...>) {
  return {Member{D::name, &type_of<std::remove_cvref_t<decltype(std::declval<T&>().*D::pointer)>>,
                 &member_in<T, D::pointer>}...};
}
template <class T>
inline constexpr std::array<Member, boost::mp11::mp_size<members<T>>::value> members_of =
    make_members<T>(boost::mp11::mp_rename<members<T>, boost::mp11::mp_list>());

template <class... D>
constexpr std::array<Enumerator, sizeof...(D)> make_enumerators(boost::mp11::mp_list<D...>) {
  return {Enumerator{D::name, static_cast<std::int64_t>(D::value)}...};
}
template <class E>
inline constexpr auto enumerators_of = make_enumerators(
    boost::mp11::mp_rename<boost::describe::describe_enumerators<E>, boost::mp11::mp_list>());

// An enumeration with a function `constexpr E unknown_name(E)` beside it says as what a name is
// read that it does not have, in what a neighbouring version sends (Unknown::kIgnore).
template <class E>
constexpr std::optional<std::int64_t> unknown_of() {
  if constexpr (requires { unknown_name(E{}); }) {
    return static_cast<std::int64_t>(unknown_name(E{}));
  } else {
    return std::nullopt;
  }
}

template <class T>
constexpr Type make_type() {
  const std::type_info* cpp = &typeid(T);
  if constexpr (std::is_same_v<T, json>) {
    return {Kind::kAny, cpp, encode_any, decode_any};
  } else if constexpr (std::is_same_v<T, bool>) {
    return {Kind::kBoolean, cpp, encode_boolean, decode_boolean};
  } else if constexpr (std::is_same_v<T, std::string>) {
    return {Kind::kString, cpp, encode_string, decode_string};
  } else if constexpr (std::is_arithmetic_v<T>) {
    constexpr Kind kind = std::is_integral_v<T> ? Kind::kInteger : Kind::kNumber;
    return {kind, cpp, encode_arithmetic<T>, decode_arithmetic<T>};
  } else if constexpr (std::is_enum_v<T>) {
    return {Kind::kEnum, cpp, encode_enum<T>,    decode_enum<T>,
            nullptr,     {},  enumerators_of<T>, unknown_of<T>()};
  } else if constexpr (is_optional<T>::value) {
    using Of = typename T::value_type;
    return {Kind::kOptional, cpp, encode_optional<Of>, decode_optional<Of>, &type_of<Of>};
  } else if constexpr (is_vector<T>::value) {
    using Of = typename T::value_type;
    return {Kind::kArray, cpp, encode_vector<Of>, decode_vector<Of>, &type_of<Of>};
  } else if constexpr (is_string_map<T>::value) {
    using Of = typename T::mapped_type;
    return {Kind::kMap, cpp, encode_map<Of>, decode_map<Of>, &type_of<Of>};
  } else {
    return {Kind::kStruct, cpp, encode_struct, decode_struct, nullptr, members_of<T>};
  }
}

}  // namespace detail

}  // namespace rackmark::json
