// The table behind spec_fields(): each public row with how to read and write its member of a
// JobSpec and when it applies. Private to common/domain.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/domain/spec.hpp"

namespace rackmark {

struct SpecRow {
  SpecField field;
  // The member as JSON; null when an optional has no value.
  std::function<nlohmann::json(const JobSpec&)> get;
  // Writes a given value; a wrong type or a value outside the row's own limits is added to the
  // problems.
  std::function<void(const nlohmann::json&, JobSpec&, std::vector<FieldProblem>&)> set;
  std::function<bool(const JobSpec&)> applies;
  std::vector<std::string> governed_by;  // the fields on which `applies` looks
};

const std::vector<SpecRow>& spec_table();
const SpecRow* find_spec_row(std::string_view path);

// What this version can run of a field, in words for an error: "resnet50", "nothing but leaving it
// out".
std::string allowed_now(const SpecField& field);
// What the field accepts at all: "one of a, b", "1 to 1000 images", "true or false".
std::string allowed_values(const SpecField& field);

// A problem with a bounded copy of the value, so that an answer cannot be larger than a question.
FieldProblem spec_problem(const std::string& path, const nlohmann::json& value,
                          const std::string& allowed, const std::string& why);

bool needs_host_path(const JobSpec& spec);  // the input reads files
bool trains(const JobSpec& spec);           // training or accuracy
bool infers_from_files_on_gpu(const JobSpec& spec);

}  // namespace rackmark
