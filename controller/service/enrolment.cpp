#include "controller/service/enrolment.hpp"

#include <algorithm>

#include "common/domain/spec.hpp"
#include "controller/service/device_class.hpp"
#include "controller/service/life.hpp"
#include "controller/service/secrets.hpp"
#include "controller/service/views.hpp"
#include "controller/store/agents.hpp"
#include "controller/store/journal.hpp"

namespace rackmark::service {

namespace {

constexpr std::size_t kMaximumName = 64, kMaximumLabels = 64, kMaximumLabelValue = 128;
constexpr const char* kNameWords = "1 to 64 letters, digits, '.', '_' and '-'";

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMaximumName &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

std::vector<FieldProblem> problems_of(const protocol::Enrolment& e) {
  std::vector<FieldProblem> problems = label_problems(e.labels);
  if (e.protocol < 1) {
    problems.push_back({"protocol", e.protocol, "1 or more", "protocol is not a known version"});
  }
  if (!is_name(e.name)) {
    problems.push_back({"name", e.name, kNameWords, "name '" + e.name + "' cannot be a name"});
  }
  if (e.device_class && (e.device_class->empty() || e.device_class->size() > 200)) {
    problems.push_back({"device_class", *e.device_class, "1 to 200 characters, or absent",
                        "device_class is empty or too long"});
  }
  return problems;
}

Error name_is_held(const store::AgentRow& holder) {
  return {ErrorCode::kConflict,
          "the name '" + holder.name + "' is held by agent " + std::to_string(holder.id) +
              " (host " + holder.inventory.hostname + ", enrolled " + rfc3339(holder.enrolled_us) +
              "); choose another with --name, keep that agent's state folder, or retire it",
          {}};
}

Error wrong_token(const std::string& why) {
  return {
      ErrorCode::kUnauthorized, why + "; make a new one with POST /api/v1/enrolment-tokens", {}};
}

// Whether this is a repeat of the call that used the token, whose answer was lost: the same host
// under the same name, not enrolled anew since, and nobody has used the agent's own token yet.
bool is_repeat(const store::EnrolmentTokenRow& token, const store::AgentRow& agent,
               const protocol::Enrolment& e) {
  return agent.presence == store::Presence::kNeverSeen && token.used_us == agent.enrolled_us &&
         agent.name == e.name && agent.inventory.hostname == e.inventory.hostname;
}

store::AgentRow describe(store::AgentRow row, const protocol::Enrolment& e) {
  row.name = e.name;
  row.labels = e.labels;
  row.inventory = e.inventory;
  row.device_class_given = e.device_class.has_value();
  row.device_class = e.device_class.value_or(device_class_of(e.inventory));
  return row;
}

}  // namespace

std::vector<FieldProblem> label_problems(const std::map<std::string, std::string>& labels) {
  std::vector<FieldProblem> problems;
  if (labels.size() > kMaximumLabels) {
    problems.push_back({"labels", labels.size(), "at most 64", "too many labels"});
  }
  for (const auto& [key, value] : labels) {
    if (!is_name(key) || key == "name") {
      problems.push_back({"labels." + key, value, std::string(kNameWords) + ", but not 'name'",
                          "label '" + key + "' cannot be a label"});
    } else if (value.size() > kMaximumLabelValue) {
      problems.push_back(
          {"labels." + key, value, "at most 128 characters", "label '" + key + "' is too long"});
    }
  }
  return problems;
}

Result<protocol::EnrolmentToken> create_enrolment_token(Core& core, std::int64_t valid_s,
                                                        const std::string& who) {
  if (valid_s < 60 || valid_s > 604'800) {
    return invalid("valid_s", valid_s, "60 to 604800",
                   "valid_s is " + std::to_string(valid_s) + ", allowed is 60 to 604800 seconds");
  }
  Change change(core);
  const std::string token = random_hex(32);
  const std::int64_t expires_us = change.now_us() + valid_s * 1'000'000;
  store::insert_enrolment_token(change.tx, sha256_hex(token), expires_us);
  store::audit(change.tx, who, "create_enrolment_token", "", "until " + rfc3339(expires_us));
  change.finish();
  return protocol::EnrolmentToken{token, rfc3339(expires_us)};
}

Result<protocol::Enrolled> enrol(Core& core, const protocol::Enrolment& e) {
  auto problems = problems_of(e);
  if (!problems.empty()) {
    std::string message = problems.front().detail;
    return Error{ErrorCode::kInvalid, std::move(message), std::move(problems)};
  }
  Change change(core);
  const auto token = store::find_enrolment_token(change.db(), sha256_hex(e.token));
  if (!token) return wrong_token("the enrolment token is not known");
  std::optional<store::AgentRow> earlier;
  if (token->used_us) {
    earlier = store::find_agent(change.db(), token->agent_id.value_or(0));
    if (!earlier || !is_repeat(*token, *earlier, e)) {
      return wrong_token("the enrolment token was used before");
    }
  }
  if (token->expires_us <= change.now_us()) return wrong_token("the enrolment token has expired");
  const auto holder = store::find_agent_by_name(change.db(), e.name);
  if (holder && !holder->retired_us && !earlier) return name_is_held(*holder);

  const std::string agent_token = random_hex(32);
  store::AgentRow row = describe(earlier.value_or(store::AgentRow{}), e);
  row.token_hash = sha256_hex(agent_token);
  if (!earlier) row.enrolled_us = change.now_us();
  if (holder) {  // the same call again, or a retired agent: its history goes on
    row.id = holder->id;
    store::update_agent(change.tx, row);
  } else {
    row.id = store::insert_agent(change.tx, row);
  }
  if (!earlier) store::use_enrolment_token(change.tx, token->id, row.id);
  store::audit(change.tx, "enrolment", "enrol", "agent " + std::to_string(row.id), row.name);
  change.touch_agent(row.id);
  change.finish();
  return protocol::Enrolled{protocol::kProtocol, row.id, agent_token, core.controller_uuid,
                            core.settings.lease_s};
}

Error agent_retired(std::int64_t agent_id) {
  return {ErrorCode::kUnauthorized, "agent " + std::to_string(agent_id) + " was retired", {}};
}

Result<protocol::AgentView> retire(Core& core, std::int64_t agent_id, const std::string& who) {
  Change change(core);
  auto agent = store::find_agent(change.db(), agent_id);
  const std::string subject = "agent " + std::to_string(agent_id);
  if (!agent) return Error{ErrorCode::kNotFound, "there is no " + subject, {}};
  if (agent->retired_us) {
    return Error{
        ErrorCode::kConflict, subject + " was retired at " + rfc3339(*agent->retired_us), {}};
  }
  auto taken = store::list_taken_hosts(change.db(), agent_id);
  const bool present = agent->presence == store::Presence::kPresent;
  if (!store::list_live_runs_of_agent(change.db(), agent_id).empty() ||
      (present && !taken.empty())) {
    return Error{ErrorCode::kConflict,
                 subject + " (" + agent->name + ") still has a run; cancel its job or wait",
                 {}};
  }
  // Of a host that is gone nobody else will say that it is empty.
  for (store::HostRow& host : taken) release_host(change, host);
  agent->retired_us = change.now_us();
  agent->token_hash.clear();
  agent->presence = store::Presence::kLeft;
  agent->presence_detail = "retired by " + who;
  store::update_agent(change.tx, *agent);
  store::audit(change.tx, who, "retire", subject, agent->name);
  change.forget_agent(agent_id);
  change.touch_agent(agent_id);
  change.wake(agent_id);
  const auto view = agent_view(change.db(), *agent, change.now_us(), core.settings.lease_s);
  change.finish();
  return view;
}

}  // namespace rackmark::service
