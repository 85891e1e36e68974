// What others may want to know of a change, told after it is committed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/json/json.hpp"

namespace rackmark::service {

// A row of the event log: resumable by its id (Last-Event-ID). `event` is "job", "run" or "agent";
// `data` is the view named in common/protocol/system.hpp.
struct EventLogEntry {
  std::int64_t id = 0;
  std::string event;
  std::optional<std::int64_t> job_id;  // what the filter `job` of /events compares
  nlohmann::json data;
};

// Not a row, not resumable: steps, telemetry and logs of a run that is under way.
struct LiveEvent {
  std::string event;  // "steps", "telemetry", "logs"
  std::int64_t job_id = 0, run_id = 0;
  nlohmann::json data;
};

// Called on the thread that called the Writer, after its transaction is durable, in order. They
// must not throw and must not call the Writer back (post to another thread instead). Any may be
// empty.
struct Notices {
  std::function<void(EventLogEntry)> event;
  std::function<void(LiveEvent)> live;
  std::function<void(std::int64_t agent_id)> wake_agent;  // answer the held sync of this agent now
};

}  // namespace rackmark::service
