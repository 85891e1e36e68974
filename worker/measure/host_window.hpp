// What the host of this process did over the measured window: CPU time of everybody and of this
// process, energy of its CPU packages, frequency governor, CPU quota. What a host does not offer is
// null.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/host/cpu_quota.hpp"
#include "common/protocol/worker_event.hpp"
#include "worker/measure/telemetry.hpp"

namespace rackmark::worker {

// RAPL's counters of the host's CPU packages, /sys/class/powercap/intel-rapl:N; most kernels let
// only root read them. They wrap after some minutes under load: read() more often than that.
class PackageEnergy {
 public:
  explicit PackageEnergy(const std::filesystem::path& powercap);
  // Joules since construction; null without packages, or once one of them cannot be read.
  std::optional<double> read();

 private:
  struct Package {
    std::filesystem::path counter;
    double range_uj = 0, last_uj = 0;
  };
  std::vector<Package> packages_;
  bool readable_ = true;
  double joules_ = 0;
};

// Any thread.
class HostWindow {
 public:
  explicit HostWindow(const std::string& root = "");  // put before every path, for tests
  void begin();
  void keep_up();  // within the window, every few seconds
  void end();
  std::optional<protocol::HostUse> use() const;  // null before end()

 private:
  struct Edge {
    std::optional<HostTicks> ticks;
    double own_cpu_s = 0;
    std::optional<double> energy_j;
    std::optional<std::string> governor;
    std::optional<CpuQuota> quota;
  };
  Edge look();

  const std::string root_;
  mutable std::mutex mutex_;
  PackageEnergy energy_;
  std::optional<Edge> begun_;
  std::optional<protocol::HostUse> use_;
};

}  // namespace rackmark::worker
