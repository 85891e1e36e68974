// A run over several agents: the calls for its daemons, on the head and on the other hosts.
#include <signal.h>

#include <stdexcept>

#include "agent/launch/daemon_call.hpp"
#include "agent/launch/launch.hpp"
#include "agent/runs/run.hpp"

namespace rackmark::agent {

namespace {

constexpr std::int64_t kNotStartedStatus = 126;

}  // namespace

std::vector<protocol::RelayCall> Run::relay_calls() const {
  std::vector<protocol::RelayCall> calls;
  for (const auto& [id, call] : relay_calls_) calls.push_back(call);
  return calls;
}

// mpirun's remote shell, on this host, wants a daemon somewhere.
void Run::answer_remote_shell(std::int64_t call_id, const RelayRequest& request) {
  const auto refuse_call = [&](const std::string& why) {
    say("mpirun's call for " + request.host + " was refused: " + why);
    relay_socket_.answer(call_id, {std::nullopt, kNotStartedStatus, why});
  };
  if (wanted_.run_token.empty() || request.token != wanted_.run_token)
    return refuse_call("the token is not this run's");
  const auto position = gang_host_position(request.host);
  if (!position || *position >= static_cast<std::int64_t>(wanted_.hosts.size()))
    return refuse_call("there is no such host in this run");
  auto words = daemon_words(request.argv);
  if (!words) return refuse_call(words.error().message);
  if (*position == wanted_.position) {
    auto argv = admit_daemon(*words);
    if (!argv) return refuse_call(argv.error().message);
    return relay_socket_.answer(call_id, {RelayStart{std::move(*argv), place_}, 0, ""});
  }
  relay_calls_[call_id] = {call_id, id(), *position, wanted_.run_token, std::move(*words)};
  ++relay_changes_;
}

void Run::take_relay_result(const protocol::RelayResult& result) {
  if (relay_calls_.erase(result.call_id) == 0) return;
  ++relay_changes_;
  relay_socket_.answer(result.call_id, {std::nullopt, result.exit_code, result.output});
}

void Run::take_relay_call(const protocol::RelayCall& call) {
  const bool possible = phase_ == Phase::kWaiting || phase_ == Phase::kReady;
  if (relay_call_ || !possible || recovered_ || !gang() || head()) return;
  relay_call_ = call;
  if (phase_ == Phase::kReady) start_daemon();
}

void Run::start_daemon() {
  try {
    if (wanted_.run_token.empty() || relay_call_->run_token != wanted_.run_token)
      throw std::runtime_error("the call for its daemon did not carry this run's token");
    auto argv = admit_daemon(relay_call_->argv);
    if (!argv) throw std::runtime_error("its daemon's command is refused: " + argv.error().message);
    start_under_guard(std::move(*argv), place_);
  } catch (const std::exception& error) {
    relay_result_ = {relay_call_->call_id, id(), kNotStartedStatus, error.what()};
    ++relay_changes_;
    refuse(RunState::kFailed, Reason::kLaunchFailed, error.what());
  }
}

// What the remote shell on the head's host ends with.
void Run::note_daemon_end() {
  relay_socket_ = RelaySocket();
  relay_calls_.clear();
  if (!relay_call_ || relay_result_) return;
  std::int64_t status = 128 + SIGKILL;
  if (facts_.guard && facts_.guard->signal != 0) status = 128 + facts_.guard->signal;
  if (facts_.guard && facts_.guard->exit_code) status = *facts_.guard->exit_code;
  relay_result_ = {relay_call_->call_id, id(), status, facts_.guard ? facts_.guard->error : ""};
  ++relay_changes_;
}

}  // namespace rackmark::agent
