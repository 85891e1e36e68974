// How a row of the spec table is built from a member of JobSpec. Private to common/domain.
#pragma once

#include <type_traits>
#include <utility>

#include "common/domain/spec_table.hpp"
#include "common/json/described.hpp"

namespace rackmark {

using Problems = std::vector<FieldProblem>;

// The value has another type, is none of the listed ones or lies outside the range.
FieldProblem not_allowed(const SpecField& field, const nlohmann::json& value);
// Range, list, length and characters of a value that has the right type.
void check_limits(const SpecField& field, const nlohmann::json& value, Problems& problems);

// Members that one JSON value of more than one form sets.
nlohmann::json get_batch_size(const JobSpec& spec);
void set_batch_size(const SpecField&, const nlohmann::json&, JobSpec&, Problems&);
nlohmann::json get_loss_scale(const JobSpec& spec);
void set_loss_scale(const SpecField&, const nlohmann::json&, JobSpec&, Problems&);
nlohmann::json get_classes(const JobSpec& spec);
void set_classes(const SpecField&, const nlohmann::json&, JobSpec&, Problems&);
nlohmann::json get_repetitions(const JobSpec& spec);
void set_repetitions(const SpecField&, const nlohmann::json&, JobSpec&, Problems&);

// Decodes and checks; `into`, an object of that type, may hold the value of a problem afterwards.
void decode_checked(const SpecField& field, const nlohmann::json& value, const json::Type& type,
                    void* into, Problems& problems);
// The same; `into` is untouched when there is a problem.
template <class T>
void decode_checked(const SpecField& field, const nlohmann::json& value, T& into,
                    Problems& problems) {
  T decoded{};
  const std::size_t before = problems.size();
  decode_checked(field, value, json::type_of<T>, &decoded, problems);
  if (problems.size() == before) into = std::move(decoded);
}

// Builds one row; each call sets one property of it.
class Row {
 public:
  using Get = std::function<nlohmann::json(const JobSpec&)>;
  using Set = std::function<void(const SpecField&, const nlohmann::json&, JobSpec&, Problems&)>;

  // `at` returns the member of a JobSpec and keeps nothing. Type, enumerators and default are the
  // member's own.
  template <class At>
  Row(std::string path, At)
      : Row(std::move(path), json::type_of<std::remove_cvref_t<std::invoke_result_t<At, JobSpec&>>>,
            [](JobSpec& spec) -> void* { return &At{}(spec); }) {}
  // A field that no member holds, since nothing can run it yet.
  static Row unavailable(std::string path, std::string type);
  // A field that is more or less than one member; its default is what `get` makes of a JobSpec that
  // nobody touched.
  static Row reached_by(std::string path, std::string type, Get get, Set set);

  Row&& custom(std::string type, Get get, Set set) && {
    row_.field.type = std::move(type);
    row_.get = std::move(get);
    set_ = std::move(set);
    return std::move(*this);
  }
  Row&& range(double minimum, double maximum, std::string unit = "") && {
    row_.field.minimum = minimum;
    row_.field.maximum = maximum;
    row_.field.unit = std::move(unit);
    return std::move(*this);
  }
  Row&& values(std::vector<std::string> all) && {
    row_.field.type = "enum";
    row_.field.values = std::move(all);
    return std::move(*this);
  }
  // What this version can run; JSON texts of the values for what is not an enum.
  Row&& now(std::vector<std::string> runnable) && {
    row_.field.values_now = std::move(runnable);
    return std::move(*this);
  }
  Row&& defaults_to(nlohmann::json value) && {
    row_.field.default_value = std::move(value);
    return std::move(*this);
  }
  Row&& defaults_to_text(std::string text) && {
    row_.field.default_value = nullptr;
    row_.field.default_text = std::move(text);
    return std::move(*this);
  }
  Row&& when(std::string words, std::vector<std::string> governed_by,
             bool (*applies)(const JobSpec&)) && {
    row_.field.applies_when = std::move(words);
    row_.governed_by = std::move(governed_by);
    row_.applies = applies;
    return std::move(*this);
  }
  Row&& not_measured() && {  // changes no number: not part of a series' identity
    row_.field.in_fingerprint = false;
    return std::move(*this);
  }
  Row&& help(std::string sentence) && {
    row_.field.help = std::move(sentence);
    return std::move(*this);
  }
  SpecRow build() && {
    row_.set = [set = std::move(set_), field = row_.field](const nlohmann::json& value,
                                                           JobSpec& spec, Problems& problems) {
      set(field, value, spec, problems);
    };
    return std::move(row_);
  }

 private:
  Row() = default;
  Row(std::string path, const json::Type& type, void* (*member)(JobSpec&));
  SpecRow row_;
  Set set_;
};

}  // namespace rackmark
