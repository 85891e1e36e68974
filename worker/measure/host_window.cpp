#include "worker/measure/host_window.hpp"

#include <time.h>
#include <unistd.h>

#include <fstream>
#include <system_error>

namespace rackmark::worker {

namespace {

namespace fs = std::filesystem;

template <class T>
std::optional<T> first_of(const fs::path& file) {
  std::ifstream in(file);
  T value{};
  if (in >> value) return value;
  return std::nullopt;
}

double own_cpu_s() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

// The one of all clock domains, or "mixed".
std::optional<std::string> frequency_governor(const fs::path& policies) {
  std::optional<std::string> one;
  std::error_code error;
  for (fs::directory_iterator it(policies, error), end; !error && it != end; it.increment(error)) {
    const auto governor = first_of<std::string>(it->path() / "scaling_governor");
    if (governor) one = !one || *one == *governor ? *governor : "mixed";
  }
  return one;
}

double seconds(std::int64_t ticks) {
  return static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

PackageEnergy::PackageEnergy(const fs::path& powercap) {
  std::error_code error;
  for (fs::directory_iterator it(powercap, error), end; !error && it != end; it.increment(error)) {
    // Not the zones inside of a package, nor "psys", which counts packages again.
    const auto name = first_of<std::string>(it->path() / "name");
    if (!name || !name->starts_with("package")) continue;
    const auto range = first_of<double>(it->path() / "max_energy_range_uj");
    const auto now = first_of<double>(it->path() / "energy_uj");
    readable_ = readable_ && range && now;
    packages_.push_back({it->path() / "energy_uj", range.value_or(0), now.value_or(0)});
  }
}

std::optional<double> PackageEnergy::read() {
  for (Package& package : packages_) {
    const auto now = first_of<double>(package.counter);
    readable_ = readable_ && now;
    if (!readable_) return std::nullopt;
    const double grown = *now - package.last_uj;
    joules_ += (grown < 0 ? grown + package.range_uj : grown) * 1e-6;
    package.last_uj = *now;
  }
  if (packages_.empty()) return std::nullopt;
  return joules_;
}

HostWindow::HostWindow(const std::string& root)
    : root_(root), energy_(root + "/sys/class/powercap") {}

HostWindow::Edge HostWindow::look() {
  return {host_ticks(root_ + "/proc"), own_cpu_s(), energy_.read(),
          frequency_governor(root_ + "/sys/devices/system/cpu/cpufreq"), cpu_quota(root_)};
}

void HostWindow::begin() {
  const std::lock_guard lock(mutex_);
  begun_ = look();
}

void HostWindow::keep_up() {
  const std::lock_guard lock(mutex_);
  if (begun_ && !use_) energy_.read();
}

void HostWindow::end() {
  const std::lock_guard lock(mutex_);
  if (!begun_ || use_) return;
  const Edge last = look();
  protocol::HostUse& use = use_.emplace();
  use.boot_id =
      first_of<std::string>(root_ + "/proc/sys/kernel/random/boot_id").value_or("unknown");
  use.own_cpu_s = last.own_cpu_s - begun_->own_cpu_s;
  if (begun_->ticks && last.ticks) {
    use.cpu_s = seconds(last.ticks->busy - begun_->ticks->busy);
    use.cpu_capacity_s = seconds(last.ticks->total - begun_->ticks->total);
  }
  if (begun_->energy_j && last.energy_j) use.package_energy_j = *last.energy_j - *begun_->energy_j;
  use.governor_before = begun_->governor;
  use.governor_after = last.governor;
  if (begun_->quota && last.quota) {
    use.quota_cpus = last.quota->cpus;
    use.quota_throttled_s = last.quota->throttled_s - begun_->quota->throttled_s;
  }
}

std::optional<protocol::HostUse> HostWindow::use() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

}  // namespace rackmark::worker
