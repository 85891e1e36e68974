// The ways to write a job spec on a command line: a file, a tf_cnn_benchmarks line, and an option
// for each field over either.
#pragma once

#include <optional>
#include <string>

#include "cli/context.hpp"
#include "cli/spec_options.hpp"
#include "common/json/json.hpp"

namespace rackmark::cli {

struct SpecInput {
  std::string file, tf;
  SpecOptions fields;
};

// `input` outlives `command`.
void add_spec_input(CLI::App& command, SpecInput& input);

// The spec, unchecked; nothing after context.fail(). Throws BadUsage for a file that holds none.
// Asks the controller for its agents where a tf line leaves the device open.
std::optional<nlohmann::json> make_spec(Context& context, const SpecInput& input);

// A key under which a request whose answer was lost is safe to send again.
std::string random_key();

}  // namespace rackmark::cli
