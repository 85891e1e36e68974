// What a rank does that only serves variables: no plan, no input, no step of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "worker/collective/parameter_server.hpp"
#include "worker/train/session.hpp"

namespace rackmark::worker {

// Its events are hello, phases, about once a second a `steps` event without entries that says how
// many steps all workers have done (so that a watchdog sees it live), and a summary without images,
// for what it used of its host. Its window ends a moment after the workers': with the last of them.
class ServerSession final : public RankSession {
 public:
  ServerSession(SessionOptions options, Events& events, const Clock& clock,
                const std::atomic<bool>& stop);
  void connect() override;
  void set_up() override;
  void run() override;
  Communicator* ranks() override { return ranks_.get(); }
  const JobSpec& spec() const override { return options_.spec; }

 private:
  void check() const;
  void begin_window();
  void follow_steps();

  SessionOptions options_;
  Events& events_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<Communicator> ranks_;
  std::unique_ptr<VariableService> service_;
  std::optional<std::int64_t> start_ns_;  // of the measured window
  std::int64_t reported_ns_ = 0;
};

}  // namespace rackmark::worker
