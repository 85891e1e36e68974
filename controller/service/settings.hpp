// What the owner of a controller can set about its decisions.
#pragma once

#include <cstdint>

namespace rackmark::service {

struct Settings {
  double lease_s = 60;                         // an agent is lost after 5/4 of it without a sync
  std::int64_t maximum_active_jobs = 100'000;  // queued or running; beyond it submit is kTooMany
  std::int64_t event_log_rows = 200'000;       // older rows are dropped
  double event_log_days = 14;
  double idempotency_hours = 24;
  double run_grace_s =
      60;  // past its time-out, until a run that its agent did not end is ended here
};

}  // namespace rackmark::service
