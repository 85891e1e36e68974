// The program without main(): arguments in, exit status out.
#pragma once

#include <string>
#include <vector>

#include "cli/context.hpp"

namespace rackmark::cli {

// `arguments` without the program's name. Writes only to the context's streams. Never throws.
int run(std::vector<std::string> arguments, Context& context);

}  // namespace rackmark::cli
