// Waiting for a job with its progress in sight.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cli/context.hpp"

namespace rackmark::cli {

// For how long a command that follows something asks again while the controller cannot be reached:
// for context.patience from the first call without an answer. `say` is told when it goes and when
// it is back.
class Patience {
 public:
  Patience(Context& context, std::function<void(const std::string&)> say);

  void answered();
  // True, after a pause, when the call is worth repeating; false for a refusal or after too long.
  bool asks_again(const Error& error);

 private:
  Context& context_;
  std::function<void(const std::string&)> say_;
  std::optional<std::chrono::steady_clock::time_point> silent_since_;
};

// Follows a job to its end: a bar rewritten in place on a terminal, elsewhere a line for each new
// phase and one every ten seconds. A controller that goes away is tried again for
// context.patience. The finished job, or nothing after context.fail().
std::optional<protocol::JobView> follow_job(Context& context, std::int64_t id);

// Prints how a finished job ended and sets the exit status.
void print_outcome(Context& context, const protocol::JobView& job);

}  // namespace rackmark::cli
