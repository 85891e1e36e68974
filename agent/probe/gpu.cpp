// NVML by dlopen: the few functions needed are declared here, so that no CUDA header or library is
// wanted to build, and a host without a driver simply has no GPU.
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <memory>

#include "agent/probe/inventory.hpp"

namespace rackmark::agent {

namespace {

using Device = void*;
struct Memory {
  unsigned long long total = 0, free = 0, used = 0;
};
constexpr int kSuccess = 0;

template <class F>
F symbol(void* library, const char* name) {
  return reinterpret_cast<F>(::dlsym(library, name));
}

template <class F, class... Args>
std::string text_of(F function, Args... args) {
  std::array<char, 128> buffer{};
  if (function == nullptr || function(args..., buffer.data(), buffer.size()) != kSuccess)
    return "unknown";
  return buffer.data();
}

}  // namespace

std::vector<protocol::GpuInventory> gpus(std::optional<std::string>& cuda_driver) {
  const std::unique_ptr<void, int (*)(void*)> library(
      ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL),
      [](void* handle) { return handle == nullptr ? 0 : ::dlclose(handle); });
  if (!library) return {};
  void* nvml = library.get();
  const auto init = symbol<int (*)()>(nvml, "nvmlInit_v2");
  const auto shut_down = symbol<int (*)()>(nvml, "nvmlShutdown");
  const auto count_of = symbol<int (*)(unsigned*)>(nvml, "nvmlDeviceGetCount_v2");
  const auto handle_of = symbol<int (*)(unsigned, Device*)>(nvml, "nvmlDeviceGetHandleByIndex_v2");
  const auto memory_of = symbol<int (*)(Device, Memory*)>(nvml, "nvmlDeviceGetMemoryInfo");
  const auto name_of = symbol<int (*)(Device, char*, unsigned)>(nvml, "nvmlDeviceGetName");
  const auto uuid_of = symbol<int (*)(Device, char*, unsigned)>(nvml, "nvmlDeviceGetUUID");
  const auto driver_of = symbol<int (*)(char*, unsigned)>(nvml, "nvmlSystemGetDriverVersion");
  const auto cuda_of = symbol<int (*)(int*)>(nvml, "nvmlSystemGetCudaDriverVersion");
  if (init == nullptr || shut_down == nullptr || count_of == nullptr || handle_of == nullptr ||
      init() != kSuccess)
    return {};

  std::vector<protocol::GpuInventory> found;
  const std::string driver = text_of(driver_of);
  unsigned count = 0;
  if (count_of(&count) != kSuccess) count = 0;
  for (unsigned i = 0; i < count; ++i) {
    Device device = nullptr;
    if (handle_of(i, &device) != kSuccess) continue;
    Memory memory;
    if (memory_of == nullptr || memory_of(device, &memory) != kSuccess) memory = {};
    found.push_back({text_of(name_of, device), text_of(uuid_of, device), driver,
                     static_cast<std::int64_t>(memory.total)});
  }
  int cuda = 0;
  if (cuda_of != nullptr && cuda_of(&cuda) == kSuccess && cuda > 0)
    cuda_driver = fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10);
  shut_down();
  return found;
}

}  // namespace rackmark::agent
