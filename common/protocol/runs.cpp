#include "common/protocol/runs.hpp"

RACKMARK_JSON_HERE(rackmark::protocol::TransitionView)
RACKMARK_JSON_HERE(rackmark::protocol::RunProgress)
RACKMARK_JSON_HERE(rackmark::protocol::RankTime)
RACKMARK_JSON_HERE(rackmark::protocol::ResultView)
RACKMARK_JSON_HERE(rackmark::protocol::RunView)
RACKMARK_JSON_HERE(rackmark::protocol::RankSteps)
RACKMARK_JSON_HERE(rackmark::protocol::StepsView)
RACKMARK_JSON_HERE(rackmark::protocol::LogQuery)
RACKMARK_JSON_HERE(rackmark::protocol::LogLineView)
RACKMARK_JSON_HERE(rackmark::protocol::LogPage)
RACKMARK_JSON_HERE(rackmark::protocol::ResultQuery)
RACKMARK_JSON_HERE(rackmark::protocol::ResultPage)
