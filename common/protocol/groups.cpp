#include "common/protocol/groups.hpp"

RACKMARK_JSON_HERE(rackmark::protocol::NewGroup)
RACKMARK_JSON_HERE(rackmark::protocol::GroupView)
RACKMARK_JSON_HERE(rackmark::protocol::GroupQuery)
RACKMARK_JSON_HERE(rackmark::protocol::GroupPage)
RACKMARK_JSON_HERE(rackmark::protocol::ScalingPoint)
RACKMARK_JSON_HERE(rackmark::protocol::ScalingLink)
RACKMARK_JSON_HERE(rackmark::protocol::ScalingView)
