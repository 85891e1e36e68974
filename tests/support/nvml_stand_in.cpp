// A stand-in for NVIDIA's libnvidia-ml.so.1, for machines without a GPU: what it answers stands in
// the file gpus.txt beside it, read anew at every call. One card a line, members between blanks:
//
//   uuid=GPU-1 name=Stand-in_80GB memory=85899345920 used=4000000000 busy=97 power_mw=350000
//   energy=1 temperature=61 sm_mhz=1980 memory_mhz=2619 reasons=4 ecc_corrected=0 ecc_uncorrected=0
//
// A member that is not there is one that this card does not support. `energy`: power x time since
// the machine was started. `mig=1`: MIG is on. `handle_error=15`: NVML gives no handle of this
// card. A line `init_error=18` is no card: the driver does not answer.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr int kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3;
using Card = std::map<std::string, std::string>;
using Device = void*;  // a card's number, from 1

std::vector<Card> lines() {
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&lines), &self);
  std::string path = self.dli_fname;
  path.replace(path.rfind('/') + 1, std::string::npos, "gpus.txt");
  std::vector<Card> found;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream members(line);
    Card card;
    for (std::string member; members >> member;) {
      const auto equals = member.find('=');
      card[member.substr(0, equals)] = member.substr(equals + 1);
    }
    if (!card.empty()) found.push_back(card);
  }
  return found;
}

std::vector<Card> cards() {
  std::vector<Card> found = lines();
  std::erase_if(found, [](const Card& card) { return card.contains("init_error"); });
  return found;
}

int error_of(const Card& card, const char* name) {
  const auto found = card.find(name);
  return found == card.end() ? kSuccess : std::atoi(found->second.c_str());
}

std::string member(Device device, const char* name) {
  const auto all = cards();
  const auto number = reinterpret_cast<std::size_t>(device);
  if (number < 1 || number > all.size()) return "";
  const auto found = all[number - 1].find(name);
  return found == all[number - 1].end() ? "" : found->second;
}

template <class T>
int give(Device device, const char* name, T* to) {
  const std::string text = member(device, name);
  if (text.empty()) return kNotSupported;
  *to = static_cast<T>(std::strtoull(text.c_str(), nullptr, 0));
  return kSuccess;
}

int give_text(std::string text, char* to, unsigned size) {
  for (char& c : text) c = c == '_' ? ' ' : c;
  if (text.empty() || text.size() >= size) return kInvalidArgument;
  std::memcpy(to, text.c_str(), text.size() + 1);
  return kSuccess;
}

}  // namespace

#define NVML extern "C" __attribute__((visibility("default"))) int

NVML nvmlInit_v2() {
  int error = kSuccess;
  for (const Card& line : lines()) error = std::max(error, error_of(line, "init_error"));
  return error;
}
extern "C" __attribute__((visibility("default"))) const char* nvmlErrorString(int error) {
  if (error == 15) return "GPU is lost";
  return error == 18 ? "Driver/library version mismatch" : "Unknown Error";
}
NVML nvmlShutdown() { return kSuccess; }
NVML nvmlSystemGetDriverVersion(char* to, unsigned size) { return give_text("580.65", to, size); }
NVML nvmlSystemGetCudaDriverVersion(int* to) {
  *to = 13000;
  return kSuccess;
}
NVML nvmlDeviceGetCount_v2(unsigned* to) {
  *to = static_cast<unsigned>(cards().size());
  return kSuccess;
}
NVML nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* to) {
  const auto all = cards();
  if (index >= all.size()) return kInvalidArgument;
  if (const int error = error_of(all[index], "handle_error")) return error;
  *to = reinterpret_cast<Device>(std::size_t{index} + 1);
  return kSuccess;
}
NVML nvmlDeviceGetName(Device device, char* to, unsigned size) {
  return give_text(member(device, "name"), to, size);
}
NVML nvmlDeviceGetUUID(Device device, char* to, unsigned size) {
  return give_text(member(device, "uuid"), to, size);
}
NVML nvmlDeviceGetMemoryInfo(Device device, unsigned long long* total_free_used) {
  if (give(device, "memory", &total_free_used[0]) != kSuccess) return kNotSupported;
  if (give(device, "used", &total_free_used[2]) != kSuccess) return kNotSupported;
  total_free_used[1] = total_free_used[0] - total_free_used[2];
  return kSuccess;
}
NVML nvmlDeviceGetMigMode(Device device, unsigned* now, unsigned* after_reset) {
  *after_reset = 0;
  return give(device, "mig", now);
}
NVML nvmlDeviceGetUtilizationRates(Device device, unsigned* gpu_memory) {
  gpu_memory[1] = 0;
  return give(device, "busy", &gpu_memory[0]);
}
NVML nvmlDeviceGetPowerUsage(Device device, unsigned* to) { return give(device, "power_mw", to); }
NVML nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long* to) {
  unsigned long long counts = 0, milliwatts = 0;
  if (give(device, "energy", &counts) != kSuccess) return kNotSupported;
  if (give(device, "power_mw", &milliwatts) != kSuccess) return kNotSupported;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double seconds = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  *to = static_cast<unsigned long long>(seconds * static_cast<double>(milliwatts));
  return kSuccess;
}
NVML nvmlDeviceGetTemperature(Device device, int, unsigned* to) {
  return give(device, "temperature", to);
}
NVML nvmlDeviceGetClockInfo(Device device, int type, unsigned* to) {
  return give(device, type == 2 ? "memory_mhz" : "sm_mhz", to);
}
// The older of its two names, as a driver of CUDA 12 has it.
NVML nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long* to) {
  return give(device, "reasons", to);
}
NVML nvmlDeviceGetTotalEccErrors(Device device, int uncorrected, int, unsigned long long* to) {
  return give(device, uncorrected == 1 ? "ecc_uncorrected" : "ecc_corrected", to);
}
