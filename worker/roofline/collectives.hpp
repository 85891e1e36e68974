// `rackmark-worker roofline --collectives` under mpirun: what the exchange of this fabric can do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rackmark::worker {

struct CollectivesOptions {
  std::string algorithm = "auto";  // of the all-reduce
  std::int64_t min_bytes = 1024, max_bytes = 67108864;
  std::vector<std::string> operations = {"all_reduce", "broadcast", "push_pull"};
  bool json = false;
};

// All ranks call it; rank 0 prints. Returns an exit status of failure.hpp.
int run_collectives(const CollectivesOptions& options);

}  // namespace rackmark::worker
