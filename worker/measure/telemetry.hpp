// What this process and its host did since the last sample, from /proc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/protocol/worker_event.hpp"

namespace rackmark::worker {

// CPU time of all processors since boot, in the kernel's ticks.
struct HostTicks {
  std::int64_t total = 0, steal = 0;
  std::int64_t busy = 0;  // what processes and the kernel used: neither idle nor stolen
};
std::optional<HostTicks> host_ticks(const std::string& proc);  // null where /proc does not say

class Telemetry {
 public:
  explicit Telemetry(std::string proc = "/proc");

  // cpu_fraction: own CPU time / (elapsed x CPUs that this process may use). steal_fraction: of all
  // CPU time of the host. Both over the time since the last sample (or construction). Members that
  // this host does not offer are null.
  protocol::TelemetryEvent sample();

 private:
  std::string proc_;
  std::int64_t wall_ns_ = 0, cpu_ns_ = 0;
  std::optional<HostTicks> ticks_;
};

// The most that was resident since forget_peak_rss(); since the start of the process without it, or
// where the kernel does not let it be forgotten.
std::int64_t peak_rss_bytes();
void forget_peak_rss();  // what the heap holds unused goes back to the system first
// Seconds since this process was started by the kernel; null when /proc does not say.
std::optional<double> process_age_s();

}  // namespace rackmark::worker
