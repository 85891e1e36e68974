#include "worker/measure/telemetry.hpp"

#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <utility>

namespace rackmark::worker {

namespace {

std::int64_t read_clock_ns(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return CPU_COUNT(&set);
}

}  // namespace

Telemetry::Telemetry(std::string proc)
    : proc_(std::move(proc)),
      wall_ns_(read_clock_ns(CLOCK_MONOTONIC)),
      cpu_ns_(read_clock_ns(CLOCK_PROCESS_CPUTIME_ID)),
      ticks_(host_ticks(proc_)) {}

protocol::TelemetryEvent Telemetry::sample() {
  protocol::TelemetryEvent event;
  const std::int64_t wall_ns = read_clock_ns(CLOCK_MONOTONIC);
  const std::int64_t cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  if (wall_ns > wall_ns_) {
    event.cpu_fraction = static_cast<double>(cpu_ns - cpu_ns_) /
                         static_cast<double>(wall_ns - wall_ns_) / usable_cpus();
  }
  wall_ns_ = wall_ns;
  cpu_ns_ = cpu_ns;

  const auto ticks = host_ticks(proc_);
  if (ticks && ticks_ && ticks->total > ticks_->total) {
    event.steal_fraction = static_cast<double>(ticks->steal - ticks_->steal) /
                           static_cast<double>(ticks->total - ticks_->total);
  }
  ticks_ = ticks;

  std::int64_t pages = 0, resident = 0;
  if (std::ifstream statm(proc_ + "/self/statm"); statm >> pages >> resident) {
    event.rss_bytes = static_cast<double>(resident * sysconf(_SC_PAGESIZE));
  }
  double load = 0;
  if (std::ifstream loadavg(proc_ + "/loadavg"); loadavg >> load) event.load_1min = load;
  return event;
}

// "cpu user nice system idle iowait irq softirq steal guest guest_nice": guest time is part of
// user.
std::optional<HostTicks> host_ticks(const std::string& proc) {
  constexpr int kIdle = 3, kWaiting = 4, kSteal = 7, kColumns = 8;
  std::ifstream stat(proc + "/stat");
  std::string label;
  if (!(stat >> label) || label != "cpu") return std::nullopt;
  HostTicks ticks;
  for (int column = 0; column < kColumns; ++column) {
    std::int64_t value = 0;
    if (!(stat >> value)) return std::nullopt;
    ticks.total += value;
    if (column == kSteal) ticks.steal = value;
    if (column != kIdle && column != kWaiting && column != kSteal) ticks.busy += value;
  }
  return ticks;
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

void forget_peak_rss() {
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // man 5 proc: resets the peak
}

std::optional<double> process_age_s() {
  std::ifstream stat("/proc/self/stat");
  std::string line;
  if (!std::getline(stat, line)) return std::nullopt;
  // The second field is the program's name in brackets and may hold anything: count from its end.
  const std::size_t bracket = line.rfind(')');
  if (bracket == std::string::npos) return std::nullopt;
  std::istringstream rest(line.substr(bracket + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) rest >> skipped;
  double start_ticks = 0;
  if (!(rest >> start_ticks)) return std::nullopt;
  const double started_s = start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  return static_cast<double>(read_clock_ns(CLOCK_BOOTTIME)) * 1e-9 - started_s;
}

}  // namespace rackmark::worker
