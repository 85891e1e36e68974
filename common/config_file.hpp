// The --config file of a service: TOML, with the names of its options. Needs CLI11, hence a header.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

namespace rackmark {

// What is given on the command line wins over the file. A name in it that is no option is refused.
inline void add_config_file(CLI::App& app) {
  app.set_config("--config", "", "Read these options from a TOML file, same names");
  app.allow_config_extras(CLI::config_extras_mode::error);
}

// One line on what is wrong with a command line or its file. CLI11 says "INI was not able to parse"
// of a name that it does not know.
inline std::string usage_problem(const CLI::ParseError& error) {
  constexpr std::string_view kUnknown = "INI was not able to parse ";
  const std::string text = error.what();
  const std::string problem = text.starts_with(kUnknown)
                                  ? "--config: there is no option " + text.substr(kUnknown.size())
                                  : text;
  return problem + " (see --help)";
}

}  // namespace rackmark
