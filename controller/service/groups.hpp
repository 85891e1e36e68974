// Groups of kind scale: which jobs they are made of, and how they are asked for. Internal to
// controller/service.
#pragma once

#include <vector>

#include "common/protocol/groups.hpp"
#include "controller/service/core.hpp"
#include "controller/service/writer.hpp"
#include "controller/store/groups.hpp"
#include "controller/store/jobs.hpp"

namespace rackmark::service {

inline constexpr const char* kScaleKind = "scale";  // the one kind of this version

// What a job of a scaling group is for.
enum class ScaleRole { kExchange, kCeiling };

// The spec of one job. `group.spec` is one that parse_spec accepts.
nlohmann::json member_spec(const protocol::NewGroup& group, std::int64_t agents, ScaleRole role);

// The job that counts for a number of agents and a role: of all with that place, reruns included,
// the newest that succeeded, else the newest. Null: there is none.
const store::JobRow* member_for(const std::vector<store::JobRow>& members,
                                const protocol::NewGroup& group, std::int64_t agents,
                                ScaleRole role);

protocol::NewGroup stored_request(const store::GroupRow& row);
// Without members.
protocol::GroupView group_view(const store::GroupRow& row,
                               const std::vector<store::JobRow>& members);
protocol::GroupView full_group_view(store::Database& db, const store::GroupRow& row);

Result<protocol::GroupView> create_group(Core& core, const protocol::NewGroup& group,
                                         const std::optional<Idempotency>& idempotency,
                                         const std::string& who);
Result<protocol::GroupView> cancel_group(Core& core, std::int64_t group_id, const std::string& who);

}  // namespace rackmark::service
