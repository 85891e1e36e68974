#include "worker/backend/caches.hpp"

#include <sched.h>

#include <fstream>
#include <set>

namespace rackmark::worker {
namespace {

std::string line_of(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::int64_t bytes_of(const std::string& text) {  // "32768K"
  if (text.empty() || text[0] < '0' || text[0] > '9') return 0;
  const std::int64_t number = std::stoll(text);
  if (text.back() == 'K') return number << 10;
  return text.back() == 'M' ? number << 20 : number;
}

}  // namespace

Cache cache_of_level(int level, const std::string& root) {
  Cache cache;
  std::set<std::string> seen;  // instances, named by the CPUs that share them
  cpu_set_t mine;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof mine, &mine) != 0) return cache;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mine)) continue;
    for (int index = 0; index < 8; ++index) {
      const std::string folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                 "/cache/index" + std::to_string(index) + "/";
      const std::string type = line_of(folder + "type");
      if (type.empty()) break;
      if (type == "Instruction" || line_of(folder + "level") != std::to_string(level)) continue;
      cache.bytes = bytes_of(line_of(folder + "size"));
      if (seen.insert(line_of(folder + "shared_cpu_list")).second) ++cache.instances;
    }
  }
  return cache;
}

std::int64_t last_level_cache_bytes() {
  for (const int level : {3, 2}) {
    if (const Cache cache = cache_of_level(level); cache.total() > 0) return cache.total();
  }
  return 32 << 20;
}

}  // namespace rackmark::worker
