// One option per row of the spec table: --model resnet50 --steps.measured 20 --labels a=b.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/json/json.hpp"

namespace CLI {
class App;
}

namespace rackmark::cli {

struct SpecOptions {
  std::map<std::string, std::vector<std::string>> given;  // path -> texts
};

// `options` outlives `command`.
void add_spec_options(CLI::App& command, SpecOptions& options);

// Writes the given options over `spec`. Texts become JSON by the row's type; one that does not
// parse stays text, and the controller's answer names the field. Throws BadUsage when a map entry
// is not key=value.
void apply_spec_options(const SpecOptions& options, nlohmann::json& spec);

}  // namespace rackmark::cli
