// What a GPU did over the measured window, from readings of it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/gpu/nvml.hpp"
#include "common/protocol/worker_event.hpp"

namespace rackmark::worker {

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

  bool begun_ = false, ended_ = false;
  gpu::Reading first_, last_;
  std::int64_t start_ns_ = 0, end_ns_ = 0;
  std::optional<double> peak_memory_bytes_;
  std::vector<gpu::Reading> readings_;  // of the window
};

}  // namespace rackmark::worker
