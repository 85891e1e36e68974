#include "common/protocol/system.hpp"

RACKMARK_JSON_HERE(rackmark::protocol::VersionView)
RACKMARK_JSON_HERE(rackmark::protocol::ModelList)
RACKMARK_JSON_HERE(rackmark::protocol::SpecSchema)
RACKMARK_JSON_HERE(rackmark::protocol::EventQuery)
RACKMARK_JSON_HERE(rackmark::protocol::ProblemField)
RACKMARK_JSON_HERE(rackmark::protocol::Problem)
