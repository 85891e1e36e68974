#include "worker/measure/events.hpp"

#include <chrono>
#include <cmath>
#include <utility>

#include "common/json/described.hpp"

namespace rackmark::worker {

namespace {

constexpr auto kFlushEvery = std::chrono::milliseconds(250);
constexpr int kFlushesPerTelemetry = 4;  // a GPU is read with every flush

}  // namespace

Events::Events(LineSink* sink, std::int64_t rank, const Clock& clock)
    : sink_(sink), rank_(rank), clock_(clock) {
  if (sink_ != nullptr) thread_ = std::thread([this] { background(); });
}

Events::~Events() {
  if (sink_ == nullptr) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_signal_.notify_all();
  thread_.join();
  flush();
}

template <class Event>
void Events::send(const char* type, const Event& event) {
  if (sink_ == nullptr) return;
  nlohmann::json line = json::encode(event);
  line["type"] = type;
  line["v"] = protocol::kWorkerEventVersion;
  line["rank"] = rank_;
  line["t_ns"] = clock_.monotonic_ns();
  // A path need not be UTF-8: what is not becomes U+FFFD rather than an exception.
  sink_->write(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void Events::watch(std::unique_ptr<GpuWatch> gpu) {
  const std::lock_guard lock(mutex_);
  gpu_ = std::move(gpu);
}

void Events::hello(const protocol::HelloEvent& event) {
  const std::lock_guard lock(mutex_);
  send("hello", event);
  sampling_ = true;
}

void Events::phase(const std::string& name, std::optional<std::int64_t> steps_planned) {
  const std::lock_guard lock(mutex_);
  if (gpu_ && phase_ == "measuring") gpu_->end_window();
  if (phase_ == "measuring") host_.end();
  if (name == "measuring") host_.begin();
  if (gpu_ && name == "measuring") gpu_->begin_window();
  flush_locked();
  phase_ = name;
  steps_in_phase_ = 0;
  send("phase", protocol::PhaseEvent{name, steps_planned});
}

void Events::step(const StepRecord& record) {
  if (sink_ == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (pending_.ms.empty()) {
    pending_.phase = phase_;
    pending_.first_step = steps_in_phase_;
  }
  ++steps_in_phase_;
  pending_.ms.push_back(record.ms);
  if (!std::isnan(record.loss))
    pending_.loss.push_back(record.loss);  // no step of inference has one
  pending_.input_wait_ms.push_back(record.input_wait_ms);
  pending_.exposed_communication_ms.push_back(record.exposed_communication_ms);
  pending_.server_wait_ms.push_back(record.server_wait_ms);
}

void Events::progress(std::int64_t steps) {
  const std::lock_guard lock(mutex_);
  protocol::StepsEvent event;
  event.phase = phase_;
  event.first_step = steps;
  send("steps", event);
}

void Events::failure(Reason reason, const std::string& detail) {
  const std::lock_guard lock(mutex_);
  flush_locked();
  sampling_ = false;
  send("failure", protocol::FailureEvent{json::enum_name(reason), detail, phase_});
}

void Events::out_of_memory(const protocol::OutOfMemoryEvent& event) {
  const std::lock_guard lock(mutex_);
  flush_locked();
  sampling_ = false;
  send("out_of_memory", event);
}

void Events::profile(const protocol::ProfileEvent& event) {
  const std::lock_guard lock(mutex_);
  flush_locked();
  send("profile", event);
}

void Events::summary(const protocol::SummaryEvent& event) {
  const std::lock_guard lock(mutex_);
  flush_locked();
  sampling_ = false;
  protocol::SummaryEvent whole = event;
  whole.host = host_.use();
  if (gpu_) whole.gpu = gpu_->use();
  send("summary", whole);
}

void Events::flush() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

std::string Events::current_phase() const {
  const std::lock_guard lock(mutex_);
  return phase_;
}

void Events::flush_locked() {
  if (pending_.ms.empty()) return;
  send("steps", std::exchange(pending_, {}));
}

void Events::background() {
  std::unique_lock lock(mutex_);
  for (int turn = 1;; ++turn) {
    if (stop_signal_.wait_for(lock, kFlushEvery, [this] { return stopping_; })) return;
    flush_locked();
    const bool second_over = turn % kFlushesPerTelemetry == 0;
    if (!sampling_ || !(gpu_ || second_over)) continue;
    lock.unlock();  // reading takes a moment; the training thread must not wait for it
    if (second_over) host_.keep_up();
    protocol::TelemetryEvent sample = telemetry_.sample();
    if (gpu_) gpu_->sample(sample);
    lock.lock();
    if (sampling_ && !stopping_) send("telemetry", sample);
  }
}

}  // namespace rackmark::worker
