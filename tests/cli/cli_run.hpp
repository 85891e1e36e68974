// Runs one command line against an address and keeps what it wrote.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "cli/program.hpp"

namespace rackmark::cli {

struct Ran {
  int status = 0;
  std::string out, err;
};

inline Ran run_cli(const std::string& url, std::vector<std::string> arguments,
                   const std::string& input = "", bool progress_bar = false) {
  std::ostringstream out, err;
  std::istringstream in(input);
  Context context(out, err, in);
  // As an option, since RACKMARK_CONTROLLER may be set where the tests run.
  if (!url.empty()) arguments.insert(arguments.begin(), {"--controller", url});
  context.progress_bar = progress_bar;
  context.poll = std::chrono::milliseconds(5);
  context.patience = std::chrono::milliseconds(300);
  const int status = run(std::move(arguments), context);
  return {status, out.str(), err.str()};
}

}  // namespace rackmark::cli
