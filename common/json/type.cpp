#include "common/json/type.hpp"

#include <cctype>

namespace rackmark::json {
namespace {

FieldProblem wrong_type(const std::string& path, const json& value, std::string allowed) {
  std::string shown = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
  return {path, value, std::move(allowed),
          "field '" + (path.empty() ? "(body)" : path) + "' is " + shown};
}

void refuse(Decoding& decoding, const std::string& path, const json& value, std::string allowed) {
  decoding.problems.push_back(wrong_type(path, value, std::move(allowed)));
}

bool is_whole(const json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::nearbyint(number) == number && std::abs(number) < 9e15;
}

void refuse_unknown(const Type& type, const json& from, const std::string& path,
                    Decoding& decoding) {
  const auto known = member_names(type);
  for (const auto& [name, value] : from.items()) {
    bool found = false;
    for (const auto& k : known) found = found || k == name;
    if (found) continue;
    const std::string field = detail::child(path, name);
    decoding.problems.push_back({field, value, joined(known), "unknown field '" + field + "'"});
  }
}

}  // namespace

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

std::string enum_name(const Type& type, std::int64_t value) {
  for (const auto& enumerator : type.enumerators) {
    if (enumerator.value == value) return wire_name(enumerator.name);
  }
  return {};
}

std::optional<std::int64_t> enum_from(const Type& type, std::string_view name) {
  for (const auto& enumerator : type.enumerators) {
    if (wire_name(enumerator.name) == name) return enumerator.value;
  }
  return std::nullopt;
}

std::vector<std::string> enum_names(const Type& type) {
  std::vector<std::string> names;
  for (const auto& enumerator : type.enumerators) names.push_back(wire_name(enumerator.name));
  return names;
}

std::vector<std::string> member_names(const Type& type) {
  std::vector<std::string> names;
  for (const auto& member : type.members) names.emplace_back(member.name);
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

std::optional<Error> decode_into(const Type& type, const json& from, void* into, Unknown unknown) {
  Decoding decoding{unknown, {}};
  type.decode(type, from, into, "", decoding);
  if (decoding.problems.empty()) return std::nullopt;
  const auto& first = decoding.problems.front();
  std::string message = first.detail + ", allowed: " + first.allowed;
  return Error{ErrorCode::kInvalid, std::move(message), std::move(decoding.problems)};
}

namespace detail {

std::string child(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : path + "." + std::string(name);
}
std::string child(const std::string& path, std::size_t index) {
  return path + "[" + std::to_string(index) + "]";
}

json encode_any(const Type&, const void* value) { return *static_cast<const json*>(value); }
json encode_boolean(const Type&, const void* value) { return *static_cast<const bool*>(value); }
json encode_string(const Type&, const void* value) {
  return *static_cast<const std::string*>(value);
}
json encode_number(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);  // JSON has no NaN: it is null
}
json encode_struct(const Type& self, const void* value) {
  json out = json::object();
  for (const auto& member : self.members) {
    // only read: the accessor serves decoding, too
    out[member.name] = member.type->encode(*member.type, member.in(const_cast<void*>(value)));
  }
  return out;
}

void decode_any(const Type&, const json& from, void* into, const std::string&, Decoding&) {
  *static_cast<json*>(into) = from;
}
void decode_boolean(const Type&, const json& from, void* into, const std::string& path,
                    Decoding& decoding) {
  if (!from.is_boolean()) return refuse(decoding, path, from, "true or false");
  *static_cast<bool*>(into) = from.get<bool>();
}
void decode_string(const Type&, const json& from, void* into, const std::string& path,
                   Decoding& decoding) {
  if (!from.is_string()) return refuse(decoding, path, from, "a string");
  *static_cast<std::string*>(into) = from.get<std::string>();
}
void decode_struct(const Type& self, const json& from, void* into, const std::string& path,
                   Decoding& decoding) {
  if (!is_object(from, path, decoding)) return;
  for (const auto& member : self.members) {
    if (const auto it = from.find(member.name); it != from.end()) {
      member.type->decode(*member.type, *it, member.in(into), child(path, member.name), decoding);
    }
  }
  if (decoding.unknown == Unknown::kRefuse) refuse_unknown(self, from, path, decoding);
}

std::optional<double> number_in(const json& from, const std::string& path, Decoding& decoding) {
  if (from.is_number()) return from.get<double>();
  refuse(decoding, path, from, "a number");
  return std::nullopt;
}

std::optional<std::int64_t> integer_in(const json& from, std::int64_t min, std::int64_t max,
                                       const std::string& path, Decoding& decoding) {
  if (!is_whole(from)) {
    refuse(decoding, path, from, "a whole number");
    return std::nullopt;
  }
  const bool huge = from.is_number_unsigned() && from.get<std::uint64_t>() > INT64_MAX;
  const std::int64_t value = huge ? 0 : from.get<std::int64_t>();
  if (!huge && value >= min && value <= max) return value;
  refuse(decoding, path, from, "a whole number in range");
  return std::nullopt;
}

std::optional<std::int64_t> enumerator_in(const Type& self, const json& from,
                                          const std::string& path, Decoding& decoding) {
  const auto value =
      from.is_string() ? enum_from(self, from.get_ref<const std::string&>()) : std::nullopt;
  if (value) return value;
  if (from.is_string() && self.unknown && decoding.unknown == Unknown::kIgnore) return self.unknown;
  refuse(decoding, path, from, "one of " + joined(enum_names(self)));
  return std::nullopt;
}

bool is_array(const json& from, const std::string& path, Decoding& decoding) {
  if (!from.is_array()) refuse(decoding, path, from, "an array");
  return from.is_array();
}
bool is_object(const json& from, const std::string& path, Decoding& decoding) {
  if (!from.is_object()) refuse(decoding, path, from, "an object");
  return from.is_object();
}

}  // namespace detail
}  // namespace rackmark::json
