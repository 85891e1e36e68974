// Queries as people write them, checked and turned into filters of the store. Internal to
// controller/service.
#pragma once

#include "common/protocol/groups.hpp"
#include "common/protocol/jobs.hpp"
#include "common/protocol/runs.hpp"
#include "controller/store/groups.hpp"
#include "controller/store/jobs.hpp"
#include "controller/store/results.hpp"

namespace rackmark::service {

// kInvalid with every wrong member.
Result<store::JobFilter> job_filter(const protocol::JobQuery& query);
Result<store::ResultFilter> result_filter(const protocol::ResultQuery& query);
Result<store::GroupFilter> group_filter(const protocol::GroupQuery& query);
Result<void> check(const protocol::StepsQuery& query);
Result<void> check(const protocol::LogQuery& query);

}  // namespace rackmark::service
