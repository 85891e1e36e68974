#include "common/host/cgroups.hpp"

#include <fstream>

namespace rackmark {

namespace {

// `group` is a path such as "/a/b": itself, "/a" and "/".
void visit_upwards(const std::string& mount, std::string group, int version,
                   const std::function<void(const Cgroup&)>& visit) {
  for (;;) {
    visit({mount + group, version});
    if (group.empty() || group == "/") return;
    group.resize(group.rfind('/'));
  }
}

}  // namespace

void visit_cgroups(const std::string& root, const std::string& controller,
                   const std::function<void(const Cgroup&)>& visit) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // id:controllers:path
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      visit_upwards(mount, path, 2, visit);
      visit_upwards(mount + "/unified", path, 2, visit);
    } else if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      visit_upwards(mount + "/" + controller, path, 1, visit);
    }
  }
}

}  // namespace rackmark
