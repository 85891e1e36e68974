#include "worker/collective/patience.hpp"

#include <cstdio>

namespace rackmark::worker {

std::int64_t runnable_threads(const char* loadavg) {
  long long running = 0;
  const int found = std::sscanf(loadavg, "%*f %*f %*f %lld/", &running);
  return found == 1 ? running : 0;
}

}  // namespace rackmark::worker
