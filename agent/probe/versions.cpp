#include <cstdlib>
#include <sstream>

#include "agent/probe/inventory.hpp"
#include "agent/process/spawn.hpp"

namespace rackmark::agent {

namespace {

constexpr int kAskMs = 20000;

std::vector<std::string> asking_environment() {
  std::vector<std::string> out{"LC_ALL=C.UTF-8"};
  for (const char* name :
       {"PATH", "LD_LIBRARY_PATH", "OPAL_PREFIX", "PMIX_INSTALL_PREFIX", "HOME", "ASAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) out.push_back(std::string(name) + "=" + value);
  }
  return out;
}

// "mpirun (Open MPI) 4.1.4" -> 4.1.4
std::string openmpi_version() {
  const Captured asked = capture({"mpirun", "--version"}, asking_environment(), kAskMs);
  const std::string line = asked.out.substr(0, asked.out.find('\n'));
  const auto at = line.find("(Open MPI) ");
  return at == std::string::npos ? "unknown" : line.substr(at + 11);
}

// "rackmark-worker 0.1.0, engine 0123456789ab, onednn 2.6.3": names and values after the first
// comma.
void take_worker_versions(const std::string& line, std::map<std::string, std::string>& into) {
  std::istringstream parts(line);
  std::string part;
  std::getline(parts, part, ',');
  while (std::getline(parts, part, ',')) {
    std::istringstream words(part);
    std::string name, value;
    if (words >> name >> value) into[name == "engine" ? "engine_revision" : name] = value;
  }
}

}  // namespace

std::map<std::string, std::string> versions(const std::filesystem::path& worker) {
  std::map<std::string, std::string> found{{"rackmark", RACKMARK_VERSION},
                                           {"engine_revision", "unknown"},
                                           {"onednn", "unknown"},
                                           {"openmpi", openmpi_version()}};
  const Captured asked = capture({worker.string(), "--version"}, asking_environment(), kAskMs);
  take_worker_versions(asked.out.substr(0, asked.out.find('\n')), found);
  return found;
}

}  // namespace rackmark::agent
