// The cgroups that limit this process: its own and every one above it.
#pragma once

#include <functional>
#include <string>

namespace rackmark {

struct Cgroup {
  std::string folder;  // where its files lie
  int version = 2;     // 1 or 2
};

// Those that know the controller ("cpu", "memory"), from this process's own up. The folders need
// not exist. `root` is put before every path, for tests.
void visit_cgroups(const std::string& root, const std::string& controller,
                   const std::function<void(const Cgroup&)>& visit);

}  // namespace rackmark
