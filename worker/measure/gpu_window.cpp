#include "worker/measure/gpu_window.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

#include "common/measure/statistics.hpp"

namespace rackmark::worker {

namespace {

// Enough readings for a first second and a half after it, at four a second.
constexpr std::size_t kFirstClocks = 4, kFewestClocks = 8;

using Member = std::optional<double> gpu::Reading::*;

std::vector<double> values(std::span<const gpu::Reading> readings, Member member) {
  std::vector<double> found;
  for (const gpu::Reading& r : readings) {
    if (r.*member) found.push_back(*(r.*member));
  }
  return found;
}

std::optional<double> mean_of(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// What came to a counter between two readings of it; a counter that was set back says nothing.
template <class T>
std::optional<T> grown(const std::optional<T>& from, const std::optional<T>& to) {
  if (!from || !to || *to < *from) return std::nullopt;
  return *to - *from;
}

// The later half against the first second: how far clocks fell, whenever before that they did.
std::optional<double> change(const std::vector<double>& clocks) {
  if (clocks.size() < kFewestClocks) return std::nullopt;
  const auto count = static_cast<std::ptrdiff_t>(clocks.size());
  const auto before = measure::median({clocks.begin(), clocks.begin() + kFirstClocks});
  const auto after = measure::median({clocks.end() - count / 2, clocks.end()});
  if (!before || !after || !(*before > 0)) return std::nullopt;
  return *after / *before - 1;
}

std::optional<std::map<std::string, double>> throttled(std::span<const gpu::Reading> readings) {
  std::map<std::string, double> shares;
  double told = 0;
  for (const gpu::Reading& r : readings) {
    if (!r.throttle_reasons) continue;
    ++told;
    for (const std::string& reason : *r.throttle_reasons) shares[reason] += 1;
  }
  if (told == 0) return std::nullopt;
  for (auto& [reason, share] : shares) share /= told;
  return shares;
}

}  // namespace

void GpuWindow::begin(const gpu::Reading& now, std::int64_t t_ns) {
  begun_ = true;
  first_ = now;
  start_ns_ = t_ns;
  add(now);
}

void GpuWindow::end(const gpu::Reading& now, std::int64_t t_ns) {
  if (!is_open()) return;
  add(now);
  ended_ = true;
  last_ = now;
  end_ns_ = t_ns;
}

void GpuWindow::add(const gpu::Reading& now) {
  if (now.memory_bytes)
    peak_memory_bytes_ = std::max(peak_memory_bytes_.value_or(0), *now.memory_bytes);
  if (is_open()) readings_.push_back(now);
}

std::optional<protocol::GpuUse> GpuWindow::use() const {
  if (!ended_) return std::nullopt;
  protocol::GpuUse use;
  use.readings = static_cast<std::int64_t>(readings_.size());
  use.energy_j = grown(first_.energy_j, last_.energy_j);
  // A counter that stood still is not one.
  if (use.energy_j && !(*use.energy_j > 0)) use.energy_j.reset();
  const double seconds = static_cast<double>(end_ns_ - start_ns_) * 1e-9;
  use.power_w = mean_of(values(readings_, &gpu::Reading::power_w));
  if (use.energy_j && seconds > 0) use.power_w = *use.energy_j / seconds;
  use.busy_fraction = mean_of(values(readings_, &gpu::Reading::busy_fraction));
  use.peak_memory_bytes = peak_memory_bytes_;
  const auto temperatures = values(readings_, &gpu::Reading::temperature_c);
  if (!temperatures.empty())
    use.max_temperature_c = *std::max_element(temperatures.begin(), temperatures.end());
  const auto clocks = values(readings_, &gpu::Reading::sm_clock_mhz);
  use.sm_clock_mhz = mean_of(clocks);
  use.sm_clock_change = change(clocks);
  use.memory_clock_mhz = mean_of(values(readings_, &gpu::Reading::memory_clock_mhz));
  use.throttled = throttled(readings_);
  use.ecc_corrected = grown(first_.ecc_corrected, last_.ecc_corrected);
  use.ecc_uncorrected = grown(first_.ecc_uncorrected, last_.ecc_uncorrected);
  return use;
}

}  // namespace rackmark::worker
