// Jobs as people ask for them: submit, cancel, rerun. Internal to controller/service.
#pragma once

#include "controller/service/core.hpp"
#include "controller/service/writer.hpp"
#include "controller/store/jobs.hpp"

namespace rackmark::service {

// The row of a submitted spec; kInvalid. Used by dry runs too.
Result<store::JobRow> job_row(const nlohmann::json& spec, std::string spec_text);

Result<protocol::JobView> submit(Core& core, const Submission& submission);
Result<protocol::JobView> rerun(Core& core, std::int64_t job_id,
                                const std::optional<Idempotency>& idempotency,
                                const std::string& who);
Result<protocol::JobView> cancel(Core& core, std::int64_t job_id, const std::string& who);

}  // namespace rackmark::service
