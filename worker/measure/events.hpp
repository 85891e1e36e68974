// The events of one rank as JSON lines (common/protocol/worker_event.hpp).
//
// Steps are collected and flushed every 250 ms, telemetry is sampled every second (with a GPU every
// 250 ms), both by a thread of this object: the training loop only appends to a vector.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/clock.hpp"
#include "common/domain/run_state.hpp"
#include "common/protocol/worker_event.hpp"
#include "worker/measure/gpu_watch.hpp"
#include "worker/measure/host_window.hpp"
#include "worker/measure/line_sink.hpp"
#include "worker/measure/telemetry.hpp"

namespace rackmark::worker {

struct StepRecord {  // one step of this rank, milliseconds
  double ms = 0;
  double loss = 0;                      // NaN in inference: the event's array stays empty
  double input_wait_ms = 0;             // the training thread waited for the next batch
  double exposed_communication_ms = 0;  // it waited for the exchange after backward had ended
  double server_wait_ms = 0;            // it waited for the parameter server
};

class Events {
 public:
  // `sink` null: the events go nowhere (--output tf, tests).
  Events(LineSink* sink, std::int64_t rank, const Clock& clock);
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  ~Events();  // flushes what is left

  // Telemetry and the summary say from here on what this GPU does. Before hello().
  void watch(std::unique_ptr<GpuWatch> gpu);
  void hello(const protocol::HelloEvent& event);  // telemetry begins after it
  // Flushes the steps of the phase before. The window of host and GPU is that of phase "measuring".
  void phase(const std::string& name, std::optional<std::int64_t> steps_planned = {});
  void step(const StepRecord& record);
  void progress(std::int64_t steps);  // of a rank that makes none itself: so many were made
  void failure(Reason reason, const std::string& detail);
  void out_of_memory(const protocol::OutOfMemoryEvent& event);
  void profile(const protocol::ProfileEvent& event);
  void summary(const protocol::SummaryEvent& event);
  void flush();

  std::string current_phase() const;
  // Why nobody gets the events any more; "" while all is well.
  std::string lost() const { return sink_ == nullptr ? "" : sink_->broken(); }

 private:
  template <class Event>
  void send(const char* type, const Event& event);
  void flush_locked();
  void background();

  LineSink* sink_;
  const std::int64_t rank_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  protocol::StepsEvent pending_;
  std::string phase_ = "setup";
  std::int64_t steps_in_phase_ = 0;
  Telemetry telemetry_;
  HostWindow host_;
  std::unique_ptr<GpuWatch> gpu_;
  std::condition_variable stop_signal_;
  bool sampling_ = false;  // between hello and the event that ends the rank
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace rackmark::worker
