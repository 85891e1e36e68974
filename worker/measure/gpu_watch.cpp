#include "worker/measure/gpu_watch.hpp"

#include <utility>

namespace rackmark::worker {

std::unique_ptr<GpuWatch> GpuWatch::open(const Clock& clock) {
  auto nvml = gpu::Nvml::open();
  auto cards = gpu::visible_cards(nvml.get()).cards;
  if (cards.empty()) return nullptr;
  return std::make_unique<GpuWatch>(std::move(nvml), std::move(cards.front()), clock);
}

GpuWatch::GpuWatch(std::unique_ptr<gpu::Nvml> nvml, gpu::Card card, const Clock& clock)
    : nvml_(std::move(nvml)), card_(std::move(card)), clock_(clock) {}

void GpuWatch::sample(protocol::TelemetryEvent& into) {
  const gpu::Reading now = nvml_->read(card_);
  into.gpu_fraction = now.busy_fraction;
  into.gpu_memory_bytes = now.memory_bytes;
  into.power_w = now.power_w;
  into.energy_j = now.energy_j;
  into.temperature_c = now.temperature_c;
  into.clock_mhz = now.sm_clock_mhz;
  into.memory_clock_mhz = now.memory_clock_mhz;
  if (now.throttle_bits) into.throttle_reasons = gpu::throttle_names(*now.throttle_bits);
  into.ecc_corrected = now.ecc_corrected;
  into.ecc_uncorrected = now.ecc_uncorrected;
  const std::lock_guard lock(mutex_);
  window_.add(now);
}

void GpuWatch::begin_window() {
  const gpu::Reading now = nvml_->read(card_);
  const std::lock_guard lock(mutex_);
  window_.begin(now, clock_.monotonic_ns());
}

void GpuWatch::end_window() {
  const gpu::Reading now = nvml_->read(card_);
  const std::lock_guard lock(mutex_);
  window_.end(now, clock_.monotonic_ns());
}

std::optional<protocol::GpuUse> GpuWatch::use() const {
  const std::lock_guard lock(mutex_);
  auto use = window_.use();
  if (use) {
    use->uuid = card_.uuid;
    use->name = card_.name;
  }
  return use;
}

}  // namespace rackmark::worker
