// Waiting for a job with its progress in sight.
#pragma once

#include <cstdint>
#include <optional>

#include "cli/context.hpp"

namespace rackmark::cli {

// Follows a job to its end: a bar rewritten in place on a terminal, elsewhere a line for each new
// phase and one every ten seconds. A controller that goes away is tried again for
// context.patience. The finished job, or nothing after context.fail().
std::optional<protocol::JobView> follow_job(Context& context, std::int64_t id);

// Prints how a finished job ended and sets the exit status.
void print_outcome(Context& context, const protocol::JobView& job);

}  // namespace rackmark::cli
