#include "worker/backend/memory_limit.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "common/host/cgroups.hpp"

namespace rackmark::worker {
namespace {

using std::int64_t;

std::optional<int64_t> read_number(const std::string& path) {
  std::ifstream in(path);
  int64_t value = 0;
  if (in >> value && value >= 0) return value;
  return std::nullopt;  // absent, or "max"
}

// The number after `key` in a file of "key value" lines.
std::optional<int64_t> read_field(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

struct Controller {  // the names that a cgroup version uses
  const char *name, *limit, *usage, *cache;
};
constexpr Controller kV2{"cgroup v2", "memory.max", "memory.current", "inactive_file"};
constexpr Controller kV1{"cgroup v1", "memory.limit_in_bytes", "memory.usage_in_bytes",
                         "total_inactive_file"};

void consider(MemoryLimit& limit, int64_t free_bytes, const char* set_by) {
  if (free_bytes < limit.free_bytes) limit = {std::max<int64_t>(free_bytes, 0), set_by};
}

void consider_cgroups(MemoryLimit& limit, const std::string& root) {
  visit_cgroups(root, "memory", [&](const Cgroup& group) {
    const Controller& c = group.version == 2 ? kV2 : kV1;
    const auto most = read_number(group.folder + "/" + c.limit);
    if (!most) return;
    const int64_t used = read_number(group.folder + "/" + c.usage).value_or(0);
    const int64_t cache = read_field(group.folder + "/memory.stat", c.cache).value_or(0);
    consider(limit, *most - std::max<int64_t>(used - cache, 0), c.name);
  });
}

void consider_address_space(MemoryLimit& limit, const std::string& root) {
  rlimit as{};
  if (getrlimit(RLIMIT_AS, &as) != 0 || as.rlim_cur == RLIM_INFINITY) return;
  const int64_t used = read_field(root + "/proc/self/status", "VmSize:").value_or(0) * 1024;
  consider(limit, static_cast<int64_t>(as.rlim_cur) - used, "RLIMIT_AS");
}

}  // namespace

MemoryLimit memory_limit(const std::string& root, std::int64_t processes) {
  MemoryLimit limit{std::numeric_limits<int64_t>::max(), ""};
  consider_cgroups(limit, root);
  if (const auto kib = read_field(root + "/proc/meminfo", "MemAvailable:"))
    consider(limit, *kib * 1024, "MemAvailable");
  if (!limit.set_by.empty()) limit.free_bytes /= std::max<std::int64_t>(1, processes);
  consider_address_space(limit, root);
  return limit;
}

}  // namespace rackmark::worker
