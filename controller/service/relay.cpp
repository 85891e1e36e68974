#include "controller/service/relay.hpp"

#include <algorithm>

namespace rackmark::service {

namespace {

constexpr std::size_t kMaximumWords = 1000, kMaximumBytes = std::size_t{256} << 10;
constexpr std::size_t kMaximumOutput = 4096;

bool is_bounded(const protocol::RelayCall& call) {
  std::size_t bytes = 0;
  for (const std::string& word : call.argv) bytes += word.size();
  return !call.argv.empty() && call.argv.size() <= kMaximumWords && bytes <= kMaximumBytes;
}

const store::HostRow* host_at(const std::vector<store::HostRow>& hosts, std::int64_t position) {
  const auto found = std::find_if(hosts.begin(), hosts.end(), [position](const auto& host) {
    return host.position == position;
  });
  return found == hosts.end() ? nullptr : &*found;
}

void take_call(Change& change, std::int64_t agent_id, const protocol::RelayCall& call) {
  const auto run = store::find_run(change.db(), call.run_id);
  if (!run || is_terminal(run->state) || run->agent_id != agent_id) return;
  if (run->run_token.empty() || call.run_token != run->run_token || !is_bounded(call)) return;
  const auto hosts = store::list_hosts(change.db(), call.run_id);
  const store::HostRow* target = call.host > 0 ? host_at(hosts, call.host) : nullptr;
  if (target == nullptr) return;
  auto& calls = change.core.memory.relay[call.run_id].calls;
  if (calls.size() > hosts.size() || !calls.emplace(call.call_id, call).second) return;
  change.wake(target->agent_id);
}

void take_result(Change& change, std::int64_t agent_id, const protocol::RelayResult& result) {
  const auto relay = change.core.memory.relay.find(result.run_id);
  if (relay == change.core.memory.relay.end()) return;  // it is told again once the head has called
  const auto call = relay->second.calls.find(result.call_id);
  const auto run = store::find_run(change.db(), result.run_id);
  const auto host = store::find_host(change.db(), result.run_id, agent_id);
  if (call == relay->second.calls.end() || !run || !host) return;
  if (host->position != call->second.host) return;
  protocol::RelayResult kept = result;
  if (kept.output.size() > kMaximumOutput) kept.output.resize(kMaximumOutput);
  if (!relay->second.results.emplace(result.call_id, std::move(kept)).second) return;
  change.wake(run->agent_id);
}

}  // namespace

void take_relay(Change& change, std::int64_t agent_id, const protocol::SyncUp& up) {
  for (const protocol::RelayCall& call : up.relay_calls) take_call(change, agent_id, call);
  for (const protocol::RelayResult& result : up.relay_results) {
    take_result(change, agent_id, result);
  }
}

void add_relay(const Core& core, const store::RunRow& run, const std::vector<store::HostRow>& hosts,
               std::int64_t agent_id, protocol::SyncDown& down) {
  const auto relay = core.memory.relay.find(run.id);
  if (relay == core.memory.relay.end()) return;
  if (run.agent_id == agent_id) {
    for (const auto& [id, result] : relay->second.results) down.relay_results.push_back(result);
    return;
  }
  for (const auto& [id, call] : relay->second.calls) {
    const store::HostRow* target = host_at(hosts, call.host);
    if (target != nullptr && target->agent_id == agent_id) down.relay_calls.push_back(call);
  }
}

}  // namespace rackmark::service
