// What a scaling group says: a pure function over its jobs and their results. Internal to
// controller/service.
#pragma once

#include <map>
#include <vector>

#include "controller/service/groups.hpp"

namespace rackmark::service {

// `results`: by job id, of each job the newest that is not invalid, if it has one.
protocol::ScalingView scaling_of(const store::GroupRow& group,
                                 const std::vector<store::JobRow>& members,
                                 const std::map<std::int64_t, protocol::ResultView>& results);

}  // namespace rackmark::service
