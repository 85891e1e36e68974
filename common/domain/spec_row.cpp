#include "common/domain/spec_row.hpp"

#include <cmath>

namespace rackmark {
namespace {

constexpr std::size_t kMaxText = 200, kMaxPath = 4096, kMaxEntries = 64, kMaxMapValue = 256,
                      kMaxMapKey = 63, kMaxEchoed = 200;

std::size_t max_length(const SpecField& field) {
  return field.path == "input.path" ? kMaxPath : kMaxText;
}

std::string number_text(double number) {
  return number == std::floor(number) && std::abs(number) < 1e16
             ? std::to_string(static_cast<std::int64_t>(number))
             : Json(number).dump();
}

bool has_control_character(const std::string& text) {
  for (const unsigned char c : text) {
    if (c < 0x20 || c == 0x7f) return true;
  }
  return false;
}

bool is_map_key(const std::string& key) {
  if (key.empty() || key.size() > kMaxMapKey) return false;
  for (std::size_t i = 0; i < key.size(); ++i) {
    const char c = key[i];
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && (i == 0 || (c != '.' && c != '_' && c != '-' && c != '/'))) return false;
  }
  return true;
}

void check_map(const SpecField& field, const Json& value, Problems& problems) {
  if (value.size() > kMaxEntries) {
    problems.push_back(spec_problem(field.path, value.size(), "at most 64 entries",
                                    "has " + std::to_string(value.size()) + " entries"));
    return;
  }
  for (const auto& [key, entry] : value.items()) {
    const auto& text = entry.get_ref<const std::string&>();
    if (!is_map_key(key)) {
      problems.push_back(spec_problem(
          field.path, key,
          "keys of 1 to 63 letters, digits and . _ - / that begin with a letter or a digit",
          "has a key that is not allowed"));
    } else if (text.size() > kMaxMapValue || has_control_character(text)) {
      problems.push_back(spec_problem(field.path + "." + key, entry,
                                      "at most 256 bytes without control characters",
                                      "is not allowed"));
    }
  }
}

std::string type_name(json::Kind kind) {
  switch (kind) {
    case json::Kind::kBoolean:
      return "boolean";
    case json::Kind::kEnum:
      return "enum";
    case json::Kind::kInteger:
      return "integer";
    case json::Kind::kNumber:
      return "number";
    case json::Kind::kString:
      return "string";
    default:
      return "map";
  }
}

bool text_allowed(const SpecField& field, const std::string& text) {
  if (field.values.empty()) return text.size() <= max_length(field) && !has_control_character(text);
  for (const auto& name : field.values) {
    if (name == text) return true;
  }
  return false;
}

}  // namespace

FieldProblem spec_problem(const std::string& path, const Json& value, const std::string& allowed,
                          const std::string& why) {
  // Strings inside a spec may hold bytes that are no UTF-8 when a program built it.
  std::string shown = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  const bool whole = shown.size() <= kMaxEchoed;
  if (!whole) shown = shown.substr(0, kMaxEchoed) + "...";
  const std::string given = value.is_null() ? "" : " (" + shown + ")";
  return {path, whole ? Json::parse(shown) : Json(shown), allowed,
          "field '" + path + "'" + given + " " + why};
}

FieldProblem not_allowed(const SpecField& field, const Json& value) {
  std::string allowed = allowed_values(field);
  // Saves the second refusal of who picks one that cannot run yet.
  if (!field.values_now.empty() && field.values_now != field.values) {
    allowed += " (this version: " + allowed_now(field) + ")";
  }
  return spec_problem(field.path, value, allowed, value.is_null() ? "is null" : "is not allowed");
}

std::string allowed_values(const SpecField& field) {
  if (!field.values.empty()) {
    return (field.values.size() > 1 ? "one of " : "") + json::joined(field.values);
  }
  if (field.type == "boolean") return "true or false";
  if (field.type == "map") return "an object of strings";
  if (field.type == "string") {
    return "a string of at most " + std::to_string(max_length(field)) +
           " bytes without control characters";
  }
  std::string range = number_text(field.minimum.value_or(0)) + " to " +
                      number_text(field.maximum.value_or(0)) +
                      (field.unit.empty() ? "" : " " + field.unit);
  if (field.type == "integer") return "a whole number, " + range;
  if (field.type == "integer_or_max") return "a whole number, " + range + ", or \"max\"";
  if (field.type == "number_or_dynamic") return "a number, " + range + ", or \"dynamic\"";
  if (field.type == "repetitions") {
    return "a whole number, " + range + ", or {min, max, target_rse, max_minutes}";
  }
  return "a number, " + range;
}

std::string allowed_now(const SpecField& field) {
  if (!field.available) return "nothing: leave it out";
  return (field.values_now.size() > 1 ? "one of " : "") + json::joined(field.values_now);
}

void check_limits(const SpecField& field, const Json& value, Problems& problems) {
  bool good = true;
  if (value.is_number()) {
    const double number = value.get<double>();
    good = std::isfinite(number) && !(field.minimum && number < *field.minimum) &&
           !(field.maximum && number > *field.maximum);
  } else if (value.is_string()) {
    good = text_allowed(field, value.get_ref<const std::string&>());
  } else if (value.is_object()) {
    check_map(field, value, problems);
  }
  if (!good) problems.push_back(not_allowed(field, value));
}

void decode_checked(const SpecField& field, const Json& value, const json::Type& type, void* into,
                    Problems& problems) {
  json::Decoding decoding{json::Unknown::kRefuse, {}};
  type.decode(type, value, into, field.path, decoding);
  Problems& found = decoding.problems;
  if (!found.empty() && field.type != "map") found = {not_allowed(field, value)};
  if (found.empty()) check_limits(field, value, found);
  for (auto& problem : found) problems.push_back(std::move(problem));
}

Row::Row(std::string path, const json::Type& type, void* (*member)(JobSpec&)) {
  const json::Type& bare = type.kind == json::Kind::kOptional ? *type.of : type;
  row_.field.path = std::move(path);
  row_.field.type = type_name(bare.kind);
  row_.field.values = json::enum_names(bare);
  row_.get = [&type, member](const JobSpec& spec) {
    return type.encode(type, member(const_cast<JobSpec&>(spec)));  // only read
  };
  row_.field.default_value = row_.get(JobSpec{});
  row_.applies = [](const JobSpec&) { return true; };
  set_ = [&type, member](const SpecField& field, const Json& value, JobSpec& spec,
                         Problems& problems) {
    if (value.is_null()) return problems.push_back(not_allowed(field, value));
    JobSpec changed = spec;
    const std::size_t before = problems.size();
    decode_checked(field, value, type, member(changed), problems);
    if (problems.size() == before) spec = std::move(changed);
  };
}

Row Row::reached_by(std::string path, std::string type, Get get, Set set) {
  Row row;
  row.row_.field.path = std::move(path);
  row.row_.field.type = std::move(type);
  row.row_.field.default_value = get(JobSpec{});
  row.row_.get = std::move(get);
  row.row_.applies = [](const JobSpec&) { return true; };
  row.set_ = std::move(set);
  return row;
}

Row Row::unavailable(std::string path, std::string type) {
  Row row;
  row.row_.field.path = std::move(path);
  row.row_.field.type = std::move(type);
  row.row_.field.available = false;
  row.row_.get = [](const JobSpec&) { return Json(nullptr); };
  row.row_.applies = [](const JobSpec&) { return true; };
  row.set_ = [](const SpecField&, const Json&, JobSpec&, Problems&) {};
  return row;
}

const SpecRow* find_spec_row(std::string_view path) {
  for (const auto& row : spec_table()) {
    if (row.field.path == path) return &row;
  }
  return nullptr;
}

bool needs_host_path(const JobSpec& spec) { return spec.input.kind != InputKind::kSynthetic; }
bool trains(const JobSpec& spec) { return spec.mode != Mode::kInference; }
bool infers_from_files_on_gpu(const JobSpec& spec) {
  return spec.mode == Mode::kInference && needs_host_path(spec) &&
         spec.resources.device == Device::kGpu;
}

bool overlaps_input(const JobSpec& spec) {
  if (!infers_from_files_on_gpu(spec)) return false;
  return spec.input.overlap.value_or(spec.batch_max || spec.batch_size > 1);
}

// --- members that one JSON value of more than one form sets

Json get_batch_size(const JobSpec& spec) {
  if (spec.batch_max) return "max";
  return spec.batch_size == 0 ? Json(nullptr) : Json(spec.batch_size);
}

void set_batch_size(const SpecField& field, const Json& value, JobSpec& spec, Problems& problems) {
  spec.batch_max = value == "max";
  if (!spec.batch_max) decode_checked(field, value, spec.batch_size, problems);
}

Json get_loss_scale(const JobSpec& spec) {
  return spec.loss_scale ? Json(*spec.loss_scale) : Json("dynamic");
}

void set_loss_scale(const SpecField& field, const Json& value, JobSpec& spec, Problems& problems) {
  if (value == "dynamic") return spec.loss_scale.reset();
  double scale = 0;
  const std::size_t before = problems.size();
  decode_checked(field, value, scale, problems);
  if (problems.size() == before) spec.loss_scale = scale;
}

Json get_classes(const JobSpec& spec) {
  return spec.classes == 0 ? Json(nullptr) : Json(spec.classes);
}

void set_classes(const SpecField& field, const Json& value, JobSpec& spec, Problems& problems) {
  decode_checked(field, value, spec.classes, problems);
}

Json get_repetitions(const JobSpec& spec) {
  const RepetitionsSpec& r = spec.repetitions;
  if (r.min == r.max && !r.target_rse && !r.max_minutes) return r.min;
  Json out = {{"min", r.min}, {"max", r.max}};
  if (r.target_rse) out["target_rse"] = *r.target_rse;
  if (r.max_minutes) out["max_minutes"] = *r.max_minutes;
  return out;
}

namespace {

void set_repetition_member(const std::string& name, const Json& value, RepetitionsSpec& into,
                           Problems& problems) {
  SpecField field{.path = "repetitions." + name, .type = "integer", .minimum = 1, .maximum = 1000};
  if (name == "min") return decode_checked(field, value, into.min, problems);
  if (name == "max") return decode_checked(field, value, into.max, problems);
  field.type = "number";
  if (name == "target_rse") {
    field.minimum = 0.0001;
    field.maximum = 1;
    double rse = 0;
    decode_checked(field, value, rse, problems);
    into.target_rse = rse;
  } else if (name == "max_minutes") {
    field.maximum = 43200;
    double minutes = 0;
    decode_checked(field, value, minutes, problems);
    into.max_minutes = minutes;
  } else {
    problems.push_back(
        spec_problem(field.path, value, "min, max, target_rse, max_minutes", "is unknown"));
  }
}

}  // namespace

void set_repetitions(const SpecField& field, const Json& value, JobSpec& spec, Problems& problems) {
  RepetitionsSpec& r = spec.repetitions;
  if (!value.is_object()) {
    decode_checked(field, value, r.min, problems);
    r.max = r.min;
    return;
  }
  const std::size_t before = problems.size();
  for (const auto& [name, member] : value.items()) {
    set_repetition_member(name, member, r, problems);
  }
  if (problems.size() != before) return;
  if (!value.contains("max")) {
    problems.push_back(spec_problem(field.path + ".max", nullptr, "1 to 1000", "is missing"));
  } else if (r.min > r.max) {
    problems.push_back(spec_problem(field.path, value, "min <= max", "has min above max"));
  }
}

}  // namespace rackmark
