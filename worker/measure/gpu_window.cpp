#include "worker/measure/gpu_window.hpp"

#include <algorithm>
#include <cstddef>

#include "common/measure/statistics.hpp"

namespace rackmark::worker {

namespace {

// Enough readings for a first second and a half after it, at four a second.
constexpr std::size_t kFirstClocks = 4;
constexpr std::int64_t kFewestClocks = 8;
constexpr std::size_t kMostBuckets = 4096;  // the first 17 minutes are kept reading by reading

// What came to a counter between two readings of it; a counter that was set back says nothing.
template <class T>
std::optional<T> grown(const std::optional<T>& from, const std::optional<T>& to) {
  if (!from || !to || *to < *from) return std::nullopt;
  return *to - *from;
}

void keep_largest(std::optional<double>& most, const std::optional<double>& value) {
  if (value) most = std::max(most.value_or(*value), *value);
}

}  // namespace

void RunningMean::add(const std::optional<double>& value) {
  if (!value) return;
  sum_ += *value;
  ++count_;
}

std::optional<double> RunningMean::value() const {
  if (count_ == 0) return std::nullopt;
  return sum_ / static_cast<double>(count_);
}

void ClockTrace::add(double mhz) {
  if (first_.size() < kFirstClocks) first_.push_back(mhz);
  sum_ += mhz;
  if (++readings_ % each_ != 0) return;
  buckets_.push_back(sum_ / static_cast<double>(each_));
  sum_ = 0;
  if (buckets_.size() < kMostBuckets) return;
  for (std::size_t i = 0; i < kMostBuckets / 2; ++i) {
    buckets_[i] = (buckets_[2 * i] + buckets_[2 * i + 1]) / 2;
  }
  buckets_.resize(kMostBuckets / 2);
  each_ *= 2;
}

// The later half against the first second: how far clocks fell, whenever before that they did.
std::optional<double> ClockTrace::change() const {
  if (readings_ < kFewestClocks) return std::nullopt;
  const auto half = static_cast<std::ptrdiff_t>(buckets_.size() / 2);
  const auto before = measure::median(first_);
  const auto after = measure::median({buckets_.end() - half, buckets_.end()});
  if (!before || !after || !(*before > 0)) return std::nullopt;
  return *after / *before - 1;
}

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
  keep_largest(peak_memory_bytes_, now.memory_bytes);
  if (!is_open()) return;
  ++readings_;
  power_w_.add(now.power_w);
  busy_fraction_.add(now.busy_fraction);
  sm_clock_mhz_.add(now.sm_clock_mhz);
  memory_clock_mhz_.add(now.memory_clock_mhz);
  keep_largest(max_temperature_c_, now.temperature_c);
  if (now.sm_clock_mhz) sm_clock_.add(*now.sm_clock_mhz);
  if (!now.throttle_bits) return;
  ++told_reasons_;
  for (std::size_t bit = 0; bit < throttled_.size(); ++bit) {
    throttled_[bit] += static_cast<std::int64_t>(*now.throttle_bits >> bit & 1);
  }
}

std::optional<std::map<std::string, double>> GpuWindow::throttled() const {
  if (told_reasons_ == 0) return std::nullopt;
  std::map<std::string, double> shares;
  for (std::size_t bit = 0; bit < throttled_.size(); ++bit) {
    if (throttled_[bit] == 0) continue;
    shares[gpu::throttle_names(std::uint64_t{1} << bit).front()] =
        static_cast<double>(throttled_[bit]) / static_cast<double>(told_reasons_);
  }
  return shares;
}

std::optional<protocol::GpuUse> GpuWindow::use() const {
  if (!ended_) return std::nullopt;
  protocol::GpuUse use;
  use.readings = readings_;
  use.energy_j = grown(first_.energy_j, last_.energy_j);
  // A counter that stood still is not one.
  if (use.energy_j && !(*use.energy_j > 0)) use.energy_j.reset();
  const double seconds = static_cast<double>(end_ns_ - start_ns_) * 1e-9;
  use.power_w = power_w_.value();
  if (use.energy_j && seconds > 0) use.power_w = *use.energy_j / seconds;
  use.busy_fraction = busy_fraction_.value();
  use.peak_memory_bytes = peak_memory_bytes_;
  use.max_temperature_c = max_temperature_c_;
  use.sm_clock_mhz = sm_clock_mhz_.value();
  use.sm_clock_change = sm_clock_.change();
  use.memory_clock_mhz = memory_clock_mhz_.value();
  use.throttled = throttled();
  use.ecc_corrected = grown(first_.ecc_corrected, last_.ecc_corrected);
  use.ecc_uncorrected = grown(first_.ecc_uncorrected, last_.ecc_uncorrected);
  return use;
}

}  // namespace rackmark::worker
