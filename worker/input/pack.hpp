// `rackmark-worker pack`: a tree of JPEG files becomes packed pictures (packed_format.hpp).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace rackmark::worker {

struct PackOptions {
  std::string pictures, out;
  std::int64_t side = 256;             // the shortest side becomes so long, the rest is cut off
  std::int64_t shard_pictures = 8192;  // of every shard but the last
  std::int64_t threads = 0;            // that decode; 0: all CPUs of this process
  std::string check;                   // instead: compare the checksums of this folder
};

// `out` is no place to write to; nothing was done.
struct OutRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct PackReport {
  std::int64_t pictures = 0, classes = 0, shards = 0, bytes = 0;
  std::vector<std::string> broken;  // "a/2.jpg: is empty"; left out
};

// Writes into `out`, a new or empty folder; every file under a temporary name first, index.json
// last. What was written is removed again when it throws: Failure for the tree (input_unavailable;
// input_broken when no picture can be decoded), OutRefused, std::runtime_error for a failed write.
PackReport pack_pictures(const PackOptions& options);

// Prints what was done on standard output, broken pictures and problems on standard error; returns
// an exit status of failure.hpp.
int run_pack(const PackOptions& options);

}  // namespace rackmark::worker
