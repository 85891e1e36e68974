#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "worker/backend/backend.hpp"
#include "worker/backend/reference/reference.hpp"

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "librackmark-backend-";
constexpr const char* kSuffix = ".so";
constexpr const char* kEntryPoint = "rackmark_make_backend";
constexpr const char* kGpuBackend = "cuda";

// Beside the executable, wherever it was started from.
fs::path plugin_folder() {
  if (const char* set = std::getenv("RACKMARK_PLUGIN_DIR"); set != nullptr && *set != '\0') {
    return set;
  }
  return fs::read_symlink("/proc/self/exe").parent_path();
}

fs::path plugin_path(const std::string& name) {
  return plugin_folder() / (kPrefix + name + kSuffix);
}

// Fastest kind of device first; unknown plug-ins between the known ones and the plain loops.
int rank_of(const std::string& name) {
  if (name == kGpuBackend) return 0;
  if (name == "onednn") return 1;
  return name == "reference" ? 3 : 2;
}

std::unique_ptr<Backend> first_usable(const std::vector<std::string>& names) {
  for (const auto& name : names) {
    std::string why_not;
    try {
      auto backend = load_backend(name);
      if (backend->usable(&why_not)) return backend;
    } catch (const std::runtime_error& error) {
      why_not = error.what();
    }
    // A slower backend than the one installed must not be taken in silence.
    std::fprintf(stderr, "rackmark-worker: backend %s is not used: %s\n", name.c_str(),
                 why_not.c_str());
  }
  throw std::runtime_error("no usable backend");
}

}  // namespace

std::vector<std::string> backend_names() {
  std::vector<std::string> names{"reference"};
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(plugin_folder(), unreadable)) {
    const std::string file = entry.path().filename();
    const std::string prefix = kPrefix, suffix = kSuffix;
    if (!file.starts_with(prefix) || !file.ends_with(suffix)) continue;
    const std::string name =
        file.substr(prefix.size(), file.size() - prefix.size() - suffix.size());
    if (!name.empty() && name != "reference") names.push_back(name);
  }
  std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
    return std::pair(rank_of(a), a) < std::pair(rank_of(b), b);
  });
  return names;
}

std::unique_ptr<Backend> load_backend(const std::string& name) {
  if (name == "reference") return make_reference_backend();
  const auto names = backend_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    std::string present;
    for (const auto& n : names) present += (present.empty() ? "" : ", ") + n;
    throw std::runtime_error("backend '" + name + "' is not here: no " + kPrefix + name + kSuffix +
                             " in " + plugin_folder().string() + "; present: " + present);
  }
  // Never closed: objects that it made, and their code, may live until the process ends.
  const fs::path path = plugin_path(name);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw std::runtime_error("backend '" + name + "' cannot be loaded: dlopen: " + dlerror());
  }
  const auto make = reinterpret_cast<Backend* (*)()>(dlsym(library, kEntryPoint));
  if (make == nullptr) {
    throw std::runtime_error("backend '" + name + "': " + path.string() + " has no " + kEntryPoint);
  }
  return std::unique_ptr<Backend>(make());
}

std::unique_ptr<Backend> best_backend() { return first_usable(backend_names()); }

std::unique_ptr<Backend> backend_for(const std::string& device) {
  auto names = backend_names();
  if (device == "cpu") {
    std::erase(names, kGpuBackend);
    return first_usable(names);
  }
  // Nothing stands in for a GPU: numbers of a CPU must not pass for its own.
  std::string why_not;
  try {
    auto backend = load_backend(kGpuBackend);
    if (backend->usable(&why_not)) return backend;
    why_not = std::string("backend '") + kGpuBackend + "' cannot be used here: " + why_not;
  } catch (const std::runtime_error& error) {
    why_not = error.what();
  }
  throw std::runtime_error("resources.device " + device + ": " + why_not);
}

}  // namespace rackmark::worker
