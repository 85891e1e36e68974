// What NVIDIA's driver says of the GPUs of this host: NVML, loaded at run time. No CUDA header or
// library is wanted to build, and a host without a driver simply has no GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rackmark::gpu {

inline constexpr const char* kUnknown = "unknown";
struct Card {
  std::string name, uuid, driver;  // "NVIDIA H200", "GPU-...", "580.65"; kUnknown when not said
  std::int64_t index = 0;          // NVML's, by PCI address
  std::int64_t memory_bytes = 0;
  void* handle = nullptr;  // NVML's, valid as long as the Nvml that gave it
  std::string unusable;    // why it cannot be used as a whole card; "" = it can
};

// One card now; null = this card or driver does not say.
struct Reading {
  std::optional<double> busy_fraction;  // share of the driver's last interval with a kernel running
  std::optional<double> memory_bytes;   // in use by all processes
  std::optional<double> power_w;
  std::optional<double> energy_j;  // since the driver was loaded
  std::optional<double> temperature_c, sm_clock_mhz, memory_clock_mhz;
  std::optional<std::uint64_t> throttle_bits;  // why clocks are not higher: throttle_names()
  std::optional<std::int64_t> ecc_corrected, ecc_uncorrected;  // since the driver was loaded
};

// Movable by pointer only; calls may come from any thread. Nothing throws.
class Nvml {
 public:
  // Null without a driver, and when a driver does not answer: `problem` then receives why.
  static std::unique_ptr<Nvml> open(std::string* problem = nullptr);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::vector<Card> cards() const;  // all of the host, in NVML's order (by PCI address)
  std::optional<std::string> cuda_driver() const;  // newest CUDA that the driver serves: "13.0"
  Reading read(const Card& card) const;

 private:
  struct Functions;
  explicit Nvml(std::unique_ptr<Functions> functions);
  std::unique_ptr<Functions> functions_;
};

// The names of set bits of NVML's clocks event (throttle) reasons; unknown bits as "reason_0x400".
std::vector<std::string> throttle_names(std::uint64_t bits);

// What CUDA_VISIBLE_DEVICES leaves a process.
struct Visible {
  std::vector<Card> cards;  // in the variable's order
  std::string unnamed;  // the entry at which the list ended, as it names no whole GPU: "MIG-..."
  std::vector<std::string> left_out;  // for people, a sentence for each GPU that the variable lets
                                      // through and that is not in `cards`
};
// Indices or beginnings of UUIDs between commas, up to the first that names none; null: all. A card
// that cannot be used is left out and ends nothing. Pure.
Visible visible(const std::vector<Card>& cards, const char* cuda_visible_devices);
// As this process's environment says. Empty without a driver.
Visible visible_cards(const Nvml* nvml);

// What CUDA_VISIBLE_DEVICES may call this card: its UUID, or without one its index, which is right
// where CUDA_DEVICE_ORDER is PCI_BUS_ID.
std::string cuda_name(const Card& card);

}  // namespace rackmark::gpu
