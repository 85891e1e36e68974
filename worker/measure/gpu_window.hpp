// What a GPU did over the measured window, from readings of it. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/gpu/nvml.hpp"
#include "common/protocol/worker_event.hpp"

namespace rackmark::worker {

// Mean of what readings say of one number; null when none does.
class RunningMean {
 public:
  void add(const std::optional<double>& value);
  std::optional<double> value() const;

 private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

// A clock over a window of any length, in memory that does not grow with it: a long window's
// readings are kept as means of neighbours.
class ClockTrace {
 public:
  void add(double mhz);
  // Median of the second half / median of the first second - 1; null from fewer than 8 readings.
  std::optional<double> change() const;

 private:
  std::vector<double> first_, buckets_;   // MHz
  std::int64_t readings_ = 0, each_ = 1;  // each_: readings of one bucket
  double sum_ = 0;                        // of the bucket that is being filled
};

class GpuWindow {
 public:
  // Readings at the window's edges; energy and ECC errors are differences between them.
  void begin(const gpu::Reading& now, std::int64_t t_ns);
  void end(const gpu::Reading& now, std::int64_t t_ns);
  // One of the regular ones. Outside of the window only its memory counts: what a plan takes, it
  // takes before.
  void add(const gpu::Reading& now);

  // Null before end(). Members without a reading are null.
  std::optional<protocol::GpuUse> use() const;

 private:
  bool is_open() const { return begun_ && !ended_; }
  std::optional<std::map<std::string, double>> throttled() const;  // reason -> share of readings

  bool begun_ = false, ended_ = false;
  gpu::Reading first_, last_;
  std::int64_t start_ns_ = 0, end_ns_ = 0;
  std::optional<double> peak_memory_bytes_;
  // Of the window.
  std::int64_t readings_ = 0, told_reasons_ = 0;
  RunningMean power_w_, busy_fraction_, sm_clock_mhz_, memory_clock_mhz_;
  std::optional<double> max_temperature_c_;
  ClockTrace sm_clock_;
  std::array<std::int64_t, 64> throttled_{};  // by bit: readings that have it
};

}  // namespace rackmark::worker
