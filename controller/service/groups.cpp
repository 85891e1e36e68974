#include "controller/service/groups.hpp"

#include <algorithm>
#include <set>

#include "common/domain/spec.hpp"
#include "controller/service/idempotency.hpp"
#include "controller/service/submission.hpp"
#include "controller/service/views.hpp"
#include "controller/store/journal.hpp"

namespace rackmark::service {

namespace {

constexpr std::size_t kFewestPoints = 2, kMostPoints = 32, kLongestName = 200;
constexpr const char* kIndependent = "independent";

// `independent` jobs are their own ceiling.
bool is_ceiling_itself(const protocol::NewGroup& group) {
  const auto update = group.spec.find("variable_update");
  return update != group.spec.end() && *update == kIndependent;
}

std::vector<ScaleRole> roles_of(const protocol::NewGroup& group) {
  if (!group.ceiling || is_ceiling_itself(group)) return {ScaleRole::kExchange};
  return {ScaleRole::kExchange, ScaleRole::kCeiling};
}

ScaleRole role_of(const store::JobRow& job, const protocol::NewGroup& group) {
  const bool alone = job.variable_update == kIndependent && !is_ceiling_itself(group);
  return alone ? ScaleRole::kCeiling : ScaleRole::kExchange;
}

// Collects everything that is wrong with a request, each field once.
class GroupProblems {
 public:
  void add(const std::string& field, nlohmann::json value, std::string allowed,
           const std::string& why) {
    constexpr std::size_t kMostShown = 200;
    std::string shown = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (shown.size() > kMostShown) shown = "too long to show";
    const std::string given = value.is_null() ? "" : " (" + shown + ")";
    add({field, std::move(value), std::move(allowed), "field '" + field + "'" + given + " " + why});
  }
  // A problem of a spec, which is a member of the request.
  void add_of_spec(FieldProblem problem) {
    constexpr std::string_view kField = "field '";  // as parse_spec begins its sentences
    if (problem.detail.starts_with(kField)) problem.detail.insert(kField.size(), "spec.");
    problem.field = problem.field == "(body)" ? "spec" : "spec." + problem.field;
    add(std::move(problem));
  }
  bool none() const { return problems_.empty(); }
  Error error() && {
    std::string message = problems_.front().detail + ", allowed: " + problems_.front().allowed;
    return {ErrorCode::kInvalid, std::move(message), std::move(problems_)};
  }

 private:
  void add(FieldProblem problem) {
    if (fields_.insert(problem.field).second) problems_.push_back(std::move(problem));
  }

  std::vector<FieldProblem> problems_;
  std::set<std::string> fields_;
};

void check_agents(const std::vector<std::int64_t>& agents, GroupProblems& problems) {
  const std::set<std::int64_t> different(agents.begin(), agents.end());
  const bool good = agents.size() >= kFewestPoints && agents.size() <= kMostPoints &&
                    different.size() == agents.size() && *different.begin() >= 1;
  if (good) return;
  problems.add("agents", agents, "2 to 32 different numbers of agents, each 1 or more: [1, 2, 4]",
               "is not allowed");
}

void check_group(const protocol::NewGroup& group, GroupProblems& problems) {
  if (group.kind != kScaleKind) problems.add("kind", group.kind, kScaleKind, "is not allowed");
  if (group.name.size() > kLongestName) {
    problems.add("name", nullptr, "at most 200 bytes", "is too long");
  }
  check_agents(group.agents, problems);
  const auto spec = parse_spec(group.spec);
  if (!spec) {
    for (const FieldProblem& problem : spec.error().fields) problems.add_of_spec(problem);
    return;
  }
  if (spec->mode != Mode::kTraining) {
    problems.add("spec.mode", json::enum_name(spec->mode), "training",
                 "is not allowed: only training runs over several agents");
  }
  const auto resources = group.spec.find("resources");
  if (resources == group.spec.end()) return;
  for (const char* counted : {"agents", "workers"}) {
    if (!resources->contains(counted)) continue;
    problems.add(std::string("spec.resources.") + counted, (*resources)[counted], "leave it out",
                 "contradicts agents of the group");
  }
}

// All jobs of a request that check_group() has passed.
std::vector<store::JobRow> member_rows(const protocol::NewGroup& group, GroupProblems& problems) {
  std::vector<store::JobRow> rows;
  for (const std::int64_t agents : group.agents) {
    for (const ScaleRole role : roles_of(group)) {
      const nlohmann::json spec = member_spec(group, agents, role);
      auto row = job_row(spec, spec.dump());
      if (row) {
        rows.push_back(std::move(*row));
        continue;
      }
      for (const FieldProblem& problem : row.error().fields) problems.add_of_spec(problem);
    }
  }
  return rows;
}

JobState state_of(const std::vector<JobState>& states) {
  const auto any = [&](JobState state) {
    return std::find(states.begin(), states.end(), state) != states.end();
  };
  const bool over =
      std::all_of(states.begin(), states.end(), [](JobState state) { return is_terminal(state); });
  const bool untouched = std::all_of(states.begin(), states.end(),
                                     [](JobState state) { return state == JobState::kQueued; });
  if (!over) return untouched ? JobState::kQueued : JobState::kRunning;
  if (any(JobState::kFailed)) return JobState::kFailed;
  return any(JobState::kCancelled) ? JobState::kCancelled : JobState::kSucceeded;
}

}  // namespace

nlohmann::json member_spec(const protocol::NewGroup& group, std::int64_t agents, ScaleRole role) {
  nlohmann::json spec = group.spec;
  spec["resources"]["agents"] = agents;
  if (role == ScaleRole::kCeiling) {
    for (const char* exchange : {"all_reduce", "parameter_server", "measure_collectives"}) {
      spec.erase(exchange);
    }
    spec["variable_update"] = kIndependent;
  } else if (!spec.contains("measure_collectives")) {
    spec["measure_collectives"] = true;
  }
  return spec;
}

const store::JobRow* member_for(const std::vector<store::JobRow>& members,
                                const protocol::NewGroup& group, std::int64_t agents,
                                ScaleRole role) {
  const store::JobRow* chosen = nullptr;
  for (const store::JobRow& job : members) {  // oldest first
    if (job.agents_wanted != agents || role_of(job, group) != role) continue;
    const bool keep =
        chosen && chosen->state == JobState::kSucceeded && job.state != JobState::kSucceeded;
    if (!keep) chosen = &job;
  }
  return chosen;
}

protocol::NewGroup stored_request(const store::GroupRow& row) {
  auto request = json::decode<protocol::NewGroup>(row.request, json::Unknown::kIgnore);
  return request ? std::move(*request) : protocol::NewGroup{};
}

protocol::GroupView group_view(const store::GroupRow& row,
                               const std::vector<store::JobRow>& members) {
  protocol::NewGroup request = stored_request(row);
  protocol::GroupView view;
  view.id = row.id;
  view.kind = row.kind;
  view.name = row.name;
  view.created_at = rfc3339(row.created_us);
  std::vector<JobState> states;
  for (const std::int64_t agents : request.agents) {
    for (const ScaleRole role : roles_of(request)) {
      const store::JobRow* job = member_for(members, request, agents, role);
      if (job) states.push_back(job->state);
    }
  }
  view.state = state_of(states);
  view.agents = std::move(request.agents);
  view.spec = std::move(request.spec);
  return view;
}

protocol::GroupView full_group_view(store::Database& db, const store::GroupRow& row) {
  const auto members = store::list_jobs_of_group(db, row.id);
  protocol::GroupView view = group_view(row, members);
  for (const store::JobRow& job : members) view.members.push_back(job_view(db, job));
  return view;
}

Result<protocol::GroupView> create_group(Core& core, const protocol::NewGroup& asked,
                                         const std::optional<Idempotency>& idempotency,
                                         const std::string& who) {
  Change change(core);
  auto earlier = earlier_view<protocol::GroupView>(change, idempotency);
  if (!earlier) return earlier.error();
  if (*earlier) return std::move(**earlier);

  protocol::NewGroup group = asked;
  std::sort(group.agents.begin(), group.agents.end());
  GroupProblems problems;
  check_group(group, problems);
  if (!problems.none()) return std::move(problems).error();
  std::vector<store::JobRow> rows = member_rows(group, problems);
  if (!problems.none()) return std::move(problems).error();
  if (auto limit = within_limit(change, rows.size()); !limit) return limit.error();

  store::GroupRow row;
  row.kind = group.kind;
  row.name = group.name;
  row.request = json::encode(group);
  row.id = store::insert_group(change.tx, row);
  row.created_us = change.now_us();
  store::audit(change.tx, who, "create_group", "group " + std::to_string(row.id), row.name);
  for (store::JobRow& job : rows) {
    job.group_id = row.id;
    add_job(change, std::move(job), who, "submit");
  }
  protocol::GroupView view = full_group_view(change.db(), row);
  remember_reply(change, idempotency, json::encode(view));
  change.finish();
  return view;
}

Result<protocol::GroupView> cancel_group(Core& core, std::int64_t group_id,
                                         const std::string& who) {
  Change change(core);
  const auto row = store::find_group(change.db(), group_id);
  const std::string name = "group " + std::to_string(group_id);
  if (!row) return Error{ErrorCode::kNotFound, "there is no " + name, {}};
  bool any = false;
  for (store::JobRow& job : store::list_jobs_of_group(change.db(), group_id)) {
    if (is_terminal(job.state)) continue;
    cancel_job(change, job, who);
    any = true;
  }
  if (!any) return Error{ErrorCode::kConflict, "all jobs of " + name + " are over", {}};
  protocol::GroupView view = full_group_view(change.db(), *row);
  change.finish();
  return view;
}

}  // namespace rackmark::service
