// `rackmark-worker run`: one rank from start to exit status.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/domain/spec.hpp"
#include "common/error.hpp"
#include "worker/train/session.hpp"

namespace rackmark::worker {

struct RunOptions {
  std::string spec_path;  // exactly one of these two
  std::string tf_flags;
  bool tf_output = false;  // --output tf
  std::string backend;     // "": the best one of this host
  std::int64_t micro_batches = 1;
  std::string dump_path;
  bool profile = false;  // as the spec's `profile`, and the table goes to standard error
};

// What the options ask for on this host, checked and resolved; kInvalid or kMalformed with every
// problem.
Result<JobSpec> load_spec(const RunOptions& options);

// Makes what a resolved spec's mode asks for.
using MakeSession = std::function<std::unique_ptr<RankSession>(
    SessionOptions options, Events& events, const Clock& clock, const std::atomic<bool>& stop)>;

// Prints the problems of a refused spec on standard error, one line each, and returns
// kExitBadSpec. Otherwise runs the session and returns one of the exit statuses in failure.hpp. A
// rank that fails sends its failure event, then ends all its peers; it may not return.
int run_worker(const RunOptions& options, const MakeSession& make_session);

}  // namespace rackmark::worker
