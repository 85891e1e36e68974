// Turns the scheduler's plan into runs. Internal to controller/service.
#pragma once

#include "controller/service/core.hpp"

namespace rackmark::service {

// Places every job that can start now.
void place(Change& change);

// When the controller itself ends this run (the agent should have done so before).
std::int64_t deadline_ns(const Core& core, double timeout_s, double ran_s);

}  // namespace rackmark::service
