#include "common/gpu/nvml.hpp"

#include <dlfcn.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace rackmark::gpu {

namespace {

// Of nvml.h; the interface is stable, newer functions have other names.
using Device = void*;
struct Memory {
  unsigned long long total = 0, free = 0, used = 0;
};
struct Utilization {
  unsigned gpu = 0, memory = 0;  // percent
};
constexpr int kSuccess = 0, kFunctionNotFound = 13;
constexpr int kTemperatureOfGpu = 0;
constexpr int kSmClock = 1, kMemoryClock = 2;
constexpr int kCorrected = 0, kUncorrected = 1, kSinceDriverLoad = 0;
constexpr unsigned kMigOn = 1;

constexpr std::array<const char*, 9> kReasons = {"gpu_idle",
                                                 "applications_clocks_setting",
                                                 "sw_power_cap",
                                                 "hw_slowdown",
                                                 "sync_boost",
                                                 "sw_thermal_slowdown",
                                                 "hw_thermal_slowdown",
                                                 "hw_power_brake_slowdown",
                                                 "display_clock_setting"};

template <class F, class... Args>
std::string text_of(F function, Args... args) {
  std::array<char, 128> buffer{};
  if (function == nullptr || function(args..., buffer.data(), buffer.size()) != kSuccess)
    return kUnknown;
  return buffer.data();
}

// What `function` writes to its last parameter; null when the driver has no such function or value.
template <class T, class F, class... Args>
std::optional<T> value_of(F function, Args... args) {
  T value{};
  if (function == nullptr || function(args..., &value) != kSuccess) return std::nullopt;
  return value;
}

template <class T>
std::optional<double> scaled(const std::optional<T>& value, double factor) {
  if (!value) return std::nullopt;
  return static_cast<double>(*value) * factor;
}

std::optional<std::int64_t> counted(const std::optional<unsigned long long>& value) {
  if (!value) return std::nullopt;
  return static_cast<std::int64_t>(*value);
}

const Card* named(const std::vector<Card>& cards, std::string_view entry) {
  if (entry.starts_with("GPU-")) {
    for (const Card& card : cards) {
      if (card.uuid.starts_with(entry)) return &card;
    }
    return nullptr;
  }
  std::size_t index = 0;
  const char* end = entry.data() + entry.size();
  const auto [stop, error] = std::from_chars(entry.data(), end, index);
  const bool number = error == std::errc{} && stop == end;
  return number && index < cards.size() ? &cards[index] : nullptr;
}

void let_through(const Card& card, Visible& to) {
  if (card.unusable.empty()) {
    to.cards.push_back(card);
  } else {
    to.left_out.push_back("GPU " + std::to_string(card.index) +
                          (card.name == kUnknown ? "" : " (" + card.name + ", " + card.uuid + ")") +
                          " is left out: " + card.unusable);
  }
}

}  // namespace

struct Nvml::Functions {
  std::unique_ptr<void, int (*)(void*)> library{nullptr, nullptr};
  int (*init)() = nullptr;
  int (*shut_down)() = nullptr;
  const char* (*error_text)(int) = nullptr;
  int (*driver)(char*, unsigned) = nullptr;
  int (*cuda)(int*) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*handle)(unsigned, Device*) = nullptr;
  int (*name)(Device, char*, unsigned) = nullptr;
  int (*uuid)(Device, char*, unsigned) = nullptr;
  int (*memory)(Device, Memory*) = nullptr;
  int (*mig)(Device, unsigned* now, unsigned* after_reset) = nullptr;
  int (*utilization)(Device, Utilization*) = nullptr;
  int (*power)(Device, unsigned*) = nullptr;             // milliwatts
  int (*energy)(Device, unsigned long long*) = nullptr;  // millijoules
  int (*temperature)(Device, int, unsigned*) = nullptr;
  int (*clock)(Device, int, unsigned*) = nullptr;
  int (*reasons)(Device, unsigned long long*) = nullptr;
  int (*ecc)(Device, int, int, unsigned long long*) = nullptr;

  explicit Functions(void* opened) : library(opened, ::dlclose) {
    find(init, "nvmlInit_v2");
    find(shut_down, "nvmlShutdown");
    find(error_text, "nvmlErrorString");
    find(driver, "nvmlSystemGetDriverVersion");
    find(cuda, "nvmlSystemGetCudaDriverVersion");
    find(count, "nvmlDeviceGetCount_v2");
    find(handle, "nvmlDeviceGetHandleByIndex_v2");
    find(name, "nvmlDeviceGetName");
    find(uuid, "nvmlDeviceGetUUID");
    find(memory, "nvmlDeviceGetMemoryInfo");
    find(mig, "nvmlDeviceGetMigMode");
    find(utilization, "nvmlDeviceGetUtilizationRates");
    find(power, "nvmlDeviceGetPowerUsage");
    find(energy, "nvmlDeviceGetTotalEnergyConsumption");
    find(temperature, "nvmlDeviceGetTemperature");
    find(clock, "nvmlDeviceGetClockInfo");
    find(reasons, "nvmlDeviceGetCurrentClocksEventReasons");
    if (reasons == nullptr) find(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    find(ecc, "nvmlDeviceGetTotalEccErrors");
  }
  bool usable() const {
    return init != nullptr && shut_down != nullptr && count != nullptr && handle != nullptr;
  }
  std::string words(int error) const {
    return error_text != nullptr ? error_text(error) : "error " + std::to_string(error);
  }
  bool has_mig_on(Device device) const {
    unsigned now = 0, after_reset = 0;
    return mig != nullptr && mig(device, &now, &after_reset) == kSuccess && now == kMigOn;
  }

 private:
  template <class F>
  void find(F& function, const char* symbol) {
    function = reinterpret_cast<F>(::dlsym(library.get(), symbol));
  }
};

Nvml::Nvml(std::unique_ptr<Functions> functions) : functions_(std::move(functions)) {}
Nvml::~Nvml() { functions_->shut_down(); }

std::unique_ptr<Nvml> Nvml::open(std::string* problem) {
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto functions = std::make_unique<Functions>(library);
  const int error = functions->usable() ? functions->init() : kFunctionNotFound;
  if (error == kSuccess) return std::unique_ptr<Nvml>(new Nvml(std::move(functions)));
  if (problem != nullptr)
    *problem =
        "NVIDIA's driver does not answer, so no GPU counts (NVML: " + functions->words(error) + ")";
  return nullptr;
}

std::vector<Card> Nvml::cards() const {
  const Functions& f = *functions_;
  const std::string driver = text_of(f.driver);
  std::vector<Card> found;
  const unsigned count = value_of<unsigned>(f.count).value_or(0);
  for (unsigned i = 0; i < count; ++i) {
    Card& card = found.emplace_back(Card{kUnknown, kUnknown, driver, std::int64_t{i}});
    if (const int error = f.handle(i, &card.handle); error != kSuccess) {
      card.unusable = "NVML: " + f.words(error);
      continue;
    }
    card.name = text_of(f.name, card.handle);
    card.uuid = text_of(f.uuid, card.handle);
    const Memory memory = value_of<Memory>(f.memory, card.handle).value_or(Memory{});
    card.memory_bytes = static_cast<std::int64_t>(memory.total);
    if (f.has_mig_on(card.handle))
      card.unusable = "MIG is on, and an instance is no whole GPU; off: nvidia-smi -i " +
                      std::to_string(i) + " -mig 0";
  }
  return found;
}

std::optional<std::string> Nvml::cuda_driver() const {
  const int version = value_of<int>(functions_->cuda).value_or(0);
  if (version <= 0) return std::nullopt;
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Reading Nvml::read(const Card& card) const {
  const Functions& f = *functions_;
  const Device device = card.handle;
  Reading now;
  if (const auto used = value_of<Utilization>(f.utilization, device))
    now.busy_fraction = used->gpu * 0.01;
  if (const auto memory = value_of<Memory>(f.memory, device))
    now.memory_bytes = static_cast<double>(memory->used);
  now.power_w = scaled(value_of<unsigned>(f.power, device), 1e-3);
  now.energy_j = scaled(value_of<unsigned long long>(f.energy, device), 1e-3);
  now.temperature_c = scaled(value_of<unsigned>(f.temperature, device, kTemperatureOfGpu), 1);
  now.sm_clock_mhz = scaled(value_of<unsigned>(f.clock, device, kSmClock), 1);
  now.memory_clock_mhz = scaled(value_of<unsigned>(f.clock, device, kMemoryClock), 1);
  now.throttle_bits = value_of<unsigned long long>(f.reasons, device);
  now.ecc_corrected =
      counted(value_of<unsigned long long>(f.ecc, device, kCorrected, kSinceDriverLoad));
  now.ecc_uncorrected =
      counted(value_of<unsigned long long>(f.ecc, device, kUncorrected, kSinceDriverLoad));
  return now;
}

std::vector<std::string> throttle_names(std::uint64_t bits) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint64_t bit = std::uint64_t{1} << i;
    if ((bits & bit) == 0) continue;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "reason_0x%llx", static_cast<unsigned long long>(bit));
    names.emplace_back(i < kReasons.size() ? kReasons[i] : text.data());
  }
  return names;
}

Visible visible(const std::vector<Card>& cards, const char* cuda_visible_devices) {
  Visible found;
  if (cuda_visible_devices == nullptr) {
    for (const Card& card : cards) let_through(card, found);
    return found;
  }
  std::string_view rest = cuda_visible_devices;
  for (;;) {
    const auto comma = rest.find(',');
    const std::string_view entry = rest.substr(0, comma);
    const Card* card = named(cards, entry);
    if (card == nullptr) {
      found.unnamed = entry;
      if (!entry.empty())
        found.left_out.push_back("CUDA_VISIBLE_DEVICES says " + found.unnamed +
                                 ", which is no whole GPU of this host: it and what follows it "
                                 "are left out");
      return found;
    }
    let_through(*card, found);
    if (comma == std::string_view::npos) return found;
    rest.remove_prefix(comma + 1);
  }
}

Visible visible_cards(const Nvml* nvml) {
  if (nvml == nullptr) return {};
  return visible(nvml->cards(), std::getenv("CUDA_VISIBLE_DEVICES"));
}

std::string cuda_name(const Card& card) {
  return card.uuid == kUnknown ? std::to_string(card.index) : card.uuid;
}

}  // namespace rackmark::gpu
