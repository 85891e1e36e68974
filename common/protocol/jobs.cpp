#include "common/protocol/jobs.hpp"

RACKMARK_JSON_HERE(rackmark::protocol::SubmitQuery)
RACKMARK_JSON_HERE(rackmark::protocol::Waiting)
RACKMARK_JSON_HERE(rackmark::protocol::DryRun)
RACKMARK_JSON_HERE(rackmark::protocol::JobView)
RACKMARK_JSON_HERE(rackmark::protocol::JobQuery)
RACKMARK_JSON_HERE(rackmark::protocol::JobPage)
