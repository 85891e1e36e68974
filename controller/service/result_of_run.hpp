// The result of a run from what its ranks sent: computed once, here, by common/measure.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/domain/run_state.hpp"
#include "common/json/json.hpp"
#include "common/protocol/runs.hpp"
#include "controller/store/agents.hpp"
#include "controller/store/facts.hpp"
#include "controller/store/jobs.hpp"
#include "controller/store/runs.hpp"
#include "controller/store/steps.hpp"

namespace rackmark::service {

struct Evidence {
  store::RunRow run;
  store::JobRow job;
  store::AgentRow agent;                          // the head
  std::vector<std::string> agents;                // names, head first
  std::vector<store::FactRow> hellos, summaries;  // by rank; summaries of dedicated servers too
  std::vector<store::RankSamples> samples;        // by rank
  std::vector<store::FactRow> telemetry;          // oldest first
  std::optional<nlohmann::json> profile;
};
Evidence collect_evidence(store::Database& db, const store::RunRow& run);

struct Failure {  // the workers said they succeeded, but there is no number to trust
  Reason reason = Reason::kNoValidSteps;
  std::string detail;
};

// A rank without summary: missing_rank, naming it. No step, or no window: no_valid_steps.
std::variant<protocol::ResultView, Failure> result_of_run(const Evidence& evidence);

}  // namespace rackmark::service
