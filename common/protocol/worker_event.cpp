#include "common/protocol/worker_event.hpp"

RACKMARK_JSON_HERE(rackmark::protocol::BatchSearch)
RACKMARK_JSON_HERE(rackmark::protocol::HelloEvent)
RACKMARK_JSON_HERE(rackmark::protocol::ProfileRow)
RACKMARK_JSON_HERE(rackmark::protocol::ProfileEvent)
RACKMARK_JSON_HERE(rackmark::protocol::PhaseEvent)
RACKMARK_JSON_HERE(rackmark::protocol::StepsEvent)
RACKMARK_JSON_HERE(rackmark::protocol::TelemetryEvent)
RACKMARK_JSON_HERE(rackmark::protocol::FailureEvent)
RACKMARK_JSON_HERE(rackmark::protocol::OutOfMemoryEvent)
RACKMARK_JSON_HERE(rackmark::protocol::Agreement)
RACKMARK_JSON_HERE(rackmark::protocol::AllReduceTime)
RACKMARK_JSON_HERE(rackmark::protocol::SummaryEvent)
