// How agents become known, and how they leave for good. Internal to controller/service.
#pragma once

#include "common/protocol/agents.hpp"
#include "controller/service/core.hpp"

namespace rackmark::service {

Result<protocol::EnrolmentToken> create_enrolment_token(Core& core, std::int64_t valid_s,
                                                        const std::string& who);
Result<protocol::Enrolled> enrol(Core& core, const protocol::Enrolment& enrolment);
Result<protocol::AgentView> retire(Core& core, std::int64_t agent_id, const std::string& who);

// What a retired agent that still calls is answered.
Error agent_retired(std::int64_t agent_id);

// What a name and labels may look like; also of labels that a sync brings.
std::vector<FieldProblem> label_problems(const std::map<std::string, std::string>& labels);

}  // namespace rackmark::service
