// Reads the GPU on which this process computes.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "common/clock.hpp"
#include "common/gpu/nvml.hpp"
#include "common/protocol/worker_event.hpp"
#include "worker/measure/gpu_window.hpp"

namespace rackmark::worker {

class GpuWatch {
 public:
  // The first card that CUDA_VISIBLE_DEVICES leaves this process; null without driver or card.
  static std::unique_ptr<GpuWatch> open(const Clock& clock);
  GpuWatch(std::unique_ptr<gpu::Nvml> nvml, gpu::Card card, const Clock& clock);

  // Each reads the card, which takes a moment (some tenths of a millisecond); from any thread.
  void sample(protocol::TelemetryEvent& into);
  void begin_window();
  void end_window();

  std::optional<protocol::GpuUse> use() const;  // null before end_window()
  const gpu::Card& card() const { return card_; }

 private:
  std::unique_ptr<gpu::Nvml> nvml_;
  gpu::Card card_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  GpuWindow window_;
};

}  // namespace rackmark::worker
