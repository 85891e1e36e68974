#include "controller/service/sync.hpp"

#include <algorithm>
#include <set>

#include "common/domain/spec.hpp"
#include "controller/service/allocation.hpp"
#include "controller/service/device_class.hpp"
#include "controller/service/enrolment.hpp"
#include "controller/service/life.hpp"
#include "controller/service/relay.hpp"
#include "controller/store/agents.hpp"

namespace rackmark::service {

namespace {

using protocol::ObservedRun;
using protocol::SyncDown;
using protocol::SyncUp;

double silent_s(const Core& core, std::int64_t agent_id) {
  const auto last = core.memory.last_sync_ns.find(agent_id);
  if (last == core.memory.last_sync_ns.end()) return 1e18;
  return static_cast<double>(core.clock.monotonic_ns() - last->second) / 1e9;
}

Error refused(const std::string& why) {
  return {ErrorCode::kConflict, "agent_conflict: " + why, {}};
}

// Overtaken by a newer sync of the same process: what it describes is not so any more.
bool is_late(const store::AgentRow& agent, const SyncUp& up) {
  return agent.boot_id == up.boot_id && agent.incarnation == up.incarnation && up.number != 0 &&
         up.number < agent.sync_number;
}

// Who speaks for this agent: the newest process of one boot. Another boot (two machines with one
// disk image must not both work) and an older process (by a wall clock that was set back between
// the two) only once the holder has left, or was silent for a lease.
std::optional<Error> adopt_speaker(const Core& core, store::AgentRow& agent, const SyncUp& up) {
  const bool held = agent.presence == store::Presence::kPresent &&
                    silent_s(core, agent.id) <= core.settings.lease_s;
  if (agent.boot_id == up.boot_id && agent.incarnation == up.incarnation) {
    if (is_late(agent, up)) return std::nullopt;
  } else if (agent.boot_id == up.boot_id) {
    if (held && up.incarnation < agent.incarnation) {
      return refused("a newer process of this agent runs on the same host");
    }
  } else if (held) {
    agent.conflict_us = core.clock.wall_us();
    agent.conflict_detail =
        "another machine (boot " + up.boot_id + ") uses this agent's identity; is the disk a copy?";
    return refused("this identity is in use by another machine or boot (" + agent.boot_id +
                   "); it is free once that has been silent for a lease");
  }
  agent.boot_id = up.boot_id;
  agent.incarnation = up.incarnation;
  agent.sync_number = up.number;
  return std::nullopt;
}

Result<void> take_description(Change& change, store::AgentRow& agent, const SyncUp& up) {
  if (up.labels) {
    auto problems = label_problems(*up.labels);
    if (!problems.empty()) {
      std::string message = problems.front().detail;
      return Error{ErrorCode::kInvalid, std::move(message), std::move(problems)};
    }
    agent.labels = *up.labels;
  }
  if (up.inventory) {
    agent.inventory = *up.inventory;
    if (!agent.device_class_given) agent.device_class = device_class_of(*up.inventory);
  }
  if (up.inventory || up.labels) {
    store::update_agent(change.tx, agent);
    change.touch_agent(agent.id);
    change.place_later();
  } else {
    store::touch_agent(change.tx, agent);
  }
  return {};
}

// A newer agent may have a name for an end that this version does not know, but it is one.
void know_end(ObservedRun& seen) {
  if (!seen.all_gone || is_terminal(seen.state)) return;
  seen.state = RunState::kFailed;
  if (seen.reason == Reason::kNone) seen.reason = Reason::kInternal;
}

Cause cause_of(const ObservedRun& seen) {
  return {Actor::kAgent, seen.reason, seen.detail, parse_rfc3339(seen.at)};
}

// A run is as far as the slowest of its hosts.
RunState slowest(Change& change, const store::RunRow& run, std::int64_t agent_id, RunState here) {
  auto& seen = change.core.memory.seen[run.id];
  seen[agent_id] = here;
  RunState state = here;
  for (const store::HostRow& host : store::list_hosts(change.db(), run.id)) {
    const auto known = seen.find(host.agent_id);
    state = std::min(state, known == seen.end() ? RunState::kReserved : known->second);
  }
  return state;
}

void observe(Change& change, store::HostRow& host, store::RunRow& run, const ObservedRun& seen,
             const std::string& incarnation) {
  if (host.seen_incarnation != incarnation) {
    host.seen_incarnation = incarnation;
    if (host.told_incarnation.empty()) host.told_incarnation = incarnation;
    store::update_host(change.tx, host);
  }
  if (seen.stall && host.stall.is_null()) {
    host.stall = json::encode(*seen.stall);
    store::update_host(change.tx, host);
  }
  const bool gang = store::list_hosts(change.db(), run.id).size() > 1;
  if (!is_terminal(run.state)) {
    if (!is_terminal(seen.state)) {
      move_run(change, run, slowest(change, run, host.agent_id, seen.state), cause_of(seen));
    } else if (!gang || seen.all_gone) {
      end_on_host(change, run, host, seen);
    }
  }
  if (is_terminal(seen.state) && seen.all_gone) {
    // What the ending of the run wrote about this host is kept.
    auto now = store::find_host(change.db(), run.id, host.agent_id);
    if (now) release_host(change, *now);
  }
}

// The agent does not list a run that it has or should have.
void miss(Change& change, const store::AgentRow& agent, store::HostRow& host, store::RunRow& run) {
  const bool knew = host.seen_incarnation == agent.incarnation;
  const bool told_another =
      !host.told_incarnation.empty() && host.told_incarnation != agent.incarnation;
  if (!is_terminal(run.state)) {
    if (!knew && !told_another) return;  // it will be told (again)
    give_up_host(change, run, host, RunState::kFailed,
                 {Actor::kController,
                  Reason::kAgentRestarted,
                  "agent " + agent.name + " was restarted and no longer knows the run",
                  {}});
  }
  auto now = store::find_host(change.db(), run.id, host.agent_id);
  if (now) release_host(change, *now);
}

void take_runs(Change& change, const store::AgentRow& agent, const SyncUp& up) {
  for (const ObservedRun& seen : up.runs) {
    auto host = store::find_host(change.db(), seen.run_id, agent.id);
    auto run = store::find_run(change.db(), seen.run_id);
    if (host && run) observe(change, *host, *run, seen, agent.incarnation);
  }
  // Taken hosts, and live runs whose host is free already: their last batches are on the way.
  std::set<std::int64_t> expected;
  for (const auto& host : store::list_taken_hosts(change.db(), agent.id)) {
    expected.insert(host.run_id);
  }
  for (const auto& run : store::list_live_runs_of_agent(change.db(), agent.id)) {
    expected.insert(run.id);
  }
  for (const ObservedRun& seen : up.runs) expected.erase(seen.run_id);
  for (const std::int64_t run_id : expected) {
    auto host = store::find_host(change.db(), run_id, agent.id);
    auto run = store::find_run(change.db(), run_id);
    if (host && run) miss(change, agent, *host, *run);
  }
}

// Runs that are over and empty on the agent's host: it keeps them until it may forget them.
std::vector<std::int64_t> gone_there(const SyncUp& up) {
  std::vector<std::int64_t> ids;
  for (const ObservedRun& seen : up.runs) {
    if (is_terminal(seen.state) && seen.all_gone) ids.push_back(seen.run_id);
  }
  return ids;
}

std::vector<std::string> slurm_nodes(store::Database& db,
                                     const std::vector<store::HostRow>& hosts) {
  if (hosts.size() < 2) return {};
  std::vector<protocol::Inventory> inventories;
  for (const store::HostRow& host : hosts) {
    auto agent = store::find_agent(db, host.agent_id);
    if (!agent) return {};
    inventories.push_back(std::move(agent->inventory));
  }
  return nodes_of_one_allocation(inventories);
}

// What the agent shall have, from the store as it is now. Marks its runs as told.
SyncDown state_for(Change& change, const store::AgentRow& agent) {
  SyncDown down;
  down.lease_s = change.core.settings.lease_s;
  for (store::RunRow& run : store::list_live_runs_of_agent(change.db(), agent.id)) {
    const auto hosts = store::list_hosts(change.db(), run.id);
    const auto own = std::find_if(hosts.begin(), hosts.end(),
                                  [&agent](const auto& host) { return host.agent_id == agent.id; });
    const bool ended_here = own != hosts.end() && own->end_state;
    if (run.cancel_wanted() || (!ended_here && must_end(hosts, change.now_us()))) {
      down.cancel.push_back(run.id);
      continue;
    }
    protocol::WantedRun wanted{run.id, run.job_id, run.repetition, run.attempt};
    wanted.spec = nlohmann::json::parse(run.spec_resolved, nullptr, false);
    wanted.timeout_s = run.timeout_s;
    wanted.run_token = run.run_token;
    wanted.network = run.network;
    for (store::HostRow host : hosts) {
      wanted.hosts.push_back(store::find_agent_name(change.db(), host.agent_id).value_or(""));
      if (host.agent_id != agent.id) continue;
      wanted.position = host.position;
      if (host.told_incarnation != agent.incarnation) {
        host.told_incarnation = agent.incarnation;
        store::update_host(change.tx, host);
      }
    }
    wanted.slurm_nodes = slurm_nodes(change.db(), hosts);
    add_relay(change.core, run, hosts, agent.id, down);
    down.wanted.push_back(std::move(wanted));
  }
  for (const std::int64_t id : change.core.memory.reported[agent.id]) {
    const auto run = store::find_run(change.db(), id);
    const bool own = run && store::find_host(change.db(), id, agent.id).has_value();
    if (!own || is_terminal(run->state)) down.forget.push_back(id);
  }
  return down;
}

void greet(Change& change, store::AgentRow& agent) {
  if (agent.presence == store::Presence::kPresent) return;
  agent.presence = store::Presence::kPresent;
  agent.presence_detail.clear();
  change.touch_agent(agent.id);
  change.place_later();
}

void say_goodbye(Change& change, store::AgentRow& agent) {
  agent.presence = store::Presence::kLeft;
  agent.presence_detail = "shut down in an orderly way";
  store::touch_agent(change.tx, agent);
  change.touch_agent(agent.id);
}

double hold_s(const Core& core, const SyncDown& down) {
  const bool busy = !down.wanted.empty() || !down.cancel.empty();
  return std::min(busy ? 3.0 : 25.0, core.settings.lease_s / 4);
}

// Whether the agent lacks something of this: then the call is not held.
bool has_news(Core& core, const store::AgentRow& agent, const SyncUp& up, const SyncDown& down) {
  std::string told = agent.incarnation + json::encode(down).dump();
  for (const ObservedRun& seen : up.runs) {
    const auto is_seen = [&seen](const auto& wanted) { return wanted.run_id == seen.run_id; };
    if (std::none_of(down.wanted.begin(), down.wanted.end(), is_seen)) {
      told += " not " + std::to_string(seen.run_id);
    }
  }
  std::string& before = core.memory.last_told[agent.id];
  const bool lacks = std::any_of(down.wanted.begin(), down.wanted.end(), [&up](const auto& wanted) {
    return std::none_of(up.runs.begin(), up.runs.end(), [&wanted](const ObservedRun& seen) {
      return seen.run_id == wanted.run_id;
    });
  });
  const bool news = lacks || before != told;
  before = std::move(told);
  return news;
}

// Nothing is taken in; the agent ignores the answer, since it sent a newer call.
SyncReply late_reply(Change& change, const store::AgentRow& agent) {
  SyncReply reply;
  reply.down = state_for(change, agent);
  change.finish();
  return reply;
}

}  // namespace

Result<SyncReply> sync(Core& core, std::int64_t agent_id, SyncUp up) {
  for (ObservedRun& seen : up.runs) know_end(seen);
  Change change(core);
  auto agent = store::find_agent(change.db(), agent_id);
  if (!agent) {
    return Error{ErrorCode::kNotFound, "there is no agent " + std::to_string(agent_id), {}};
  }
  if (agent->retired_us) return agent_retired(agent_id);  // since its token was looked at
  if (auto error = adopt_speaker(core, *agent, up)) {
    store::touch_agent(change.tx, *agent);
    if (agent->conflict_us == change.now_us()) change.touch_agent(agent_id);
    change.finish();
    return *error;
  }
  if (is_late(*agent, up)) return late_reply(change, *agent);
  agent->last_seen_us = change.now_us();
  greet(change, *agent);
  if (auto taken = take_description(change, *agent, up); !taken) return taken.error();
  take_runs(change, *agent, up);
  take_relay(change, agent_id, up);
  if (up.leaving) say_goodbye(change, *agent);
  core.memory.reported[agent_id] = gone_there(up);
  change.place_now();
  SyncReply reply;
  reply.down = state_for(change, *agent);
  reply.hold_s = hold_s(core, reply.down);
  const bool news = has_news(core, *agent, up, reply.down);
  reply.answer_now = news || !up.wait || up.leaving;
  change.finish();
  core.memory.last_sync_ns[agent_id] = core.clock.monotonic_ns();  // only what is answered counts
  return reply;
}

Result<SyncDown> sync_down(Core& core, std::int64_t agent_id) {
  Change change(core);
  const auto agent = store::find_agent(change.db(), agent_id);
  if (!agent) {
    return Error{ErrorCode::kNotFound, "there is no agent " + std::to_string(agent_id), {}};
  }
  SyncDown down = state_for(change, *agent);
  change.finish();
  return down;
}

void lose_silent_agents(Change& change) {
  std::vector<std::int64_t> silent;
  for (const auto& [agent_id, when] : change.core.memory.last_sync_ns) {
    if (silent_s(change.core, agent_id) > 1.25 * change.core.settings.lease_s) {
      silent.push_back(agent_id);
    }
  }
  for (const std::int64_t agent_id : silent) {
    change.forget_agent(agent_id);
    auto agent = store::find_agent(change.db(), agent_id);
    if (!agent) continue;
    const std::string why = "agent " + agent->name + " was silent for 5/4 of its lease";
    for (store::RunRow& run : store::list_live_runs_of_agent(change.db(), agent_id)) {
      auto host = store::find_host(change.db(), run.id, agent_id);
      if (!host) continue;
      give_up_host(change, run, *host, RunState::kLost,
                   {Actor::kController, Reason::kAgentLost, why, {}});
    }
    if (agent->presence != store::Presence::kPresent) continue;
    agent->presence = store::Presence::kLost;
    agent->presence_detail = "no sync for 5/4 of the lease";
    store::touch_agent(change.tx, *agent);
    change.touch_agent(agent_id);
  }
}

void end_overdue_runs(Change& change) {
  Memory& memory = change.core.memory;
  const std::int64_t now_ns = change.core.clock.monotonic_ns();
  const auto grace_ns = static_cast<std::int64_t>(change.core.settings.run_grace_s * 1e9);
  for (store::RunRow& run : store::list_live_runs(change.db())) {
    if (run.reported_state) {
      const std::int64_t heard_ns = memory.heard_ns.try_emplace(run.id, now_ns).first->second;
      if (now_ns - heard_ns > grace_ns) finish_reported(change, run, true);
      continue;
    }
    const auto deadline = memory.deadline_ns.find(run.id);
    if (deadline == memory.deadline_ns.end()) continue;
    if (now_ns < deadline->second) continue;
    end_run(change, run, RunState::kTimeout,
            {Actor::kController,
             Reason::kTimedOut,
             "no end within " + std::to_string(static_cast<std::int64_t>(run.timeout_s)) +
                 " s, nor within the grace after it",
             {}});
  }
}

}  // namespace rackmark::service
