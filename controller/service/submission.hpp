// Jobs as people ask for them: submit, cancel, rerun. Internal to controller/service.
#pragma once

#include "controller/service/core.hpp"
#include "controller/service/writer.hpp"
#include "controller/store/jobs.hpp"

namespace rackmark::service {

// The row of a submitted spec; kInvalid. Used by dry runs too.
Result<store::JobRow> job_row(const nlohmann::json& spec, std::string spec_text);

// kTooMany when so many further jobs would be more than may be active.
Result<void> within_limit(Change& change, std::size_t more = 1);
// Stores a job that was asked for, to be placed when the change is finished. Gives its id.
std::int64_t add_job(Change& change, store::JobRow row, const std::string& who,
                     const std::string& action);

// Ends a job that is not over: at once where no agent knows of a run, else the agents are told.
void cancel_job(Change& change, store::JobRow& job, const std::string& who);

Result<protocol::JobView> submit(Core& core, const Submission& submission);
Result<protocol::JobView> rerun(Core& core, std::int64_t job_id,
                                const std::optional<Idempotency>& idempotency,
                                const std::string& who);
Result<protocol::JobView> cancel(Core& core, std::int64_t job_id, const std::string& who);

}  // namespace rackmark::service
