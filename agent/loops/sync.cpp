#include <fmt/format.h>

#include <algorithm>

#include "agent/loops/session.hpp"
#include "common/net/log.hpp"
#include "common/net/task_group.hpp"

namespace rackmark::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

// Held at most 3 s with a run and 25 s without (protocol), and the answer takes its time.
std::chrono::milliseconds poll_timeout(const Session& session) {
  if (!session.runner->busy()) return 40s;
  const double seconds = std::clamp(session.lease.lease_s() / 3, 5.0, 15.0);
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

std::chrono::milliseconds retry_after(const Session& session) {
  const double seconds = std::clamp(session.lease.lease_s() / 24, 0.25, 1.0);
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

void take_failure(Session& session, const Error& error) {
  switch (error.code) {
    case ErrorCode::kUnauthorized:
    case ErrorCode::kForbidden:
    case ErrorCode::kNotFound:
    case ErrorCode::kGone:
      session.fatal = fmt::format(
          "the controller does not know this agent any more ({}); remove identity.json from the "
          "state folder and enrol again",
          error.message);
      session.ended.set();
      break;
    case ErrorCode::kUnavailable:
      if (!session.stopping)
        session.sync_complaints.about("no answer from the controller: " + error.message);
      break;
    default:
      session.sync_complaints.about("the controller does not take this agent's sync: " +
                                    error.message);
      break;
  }
}

}  // namespace

asio::awaitable<bool> sync_once(Session& session, bool wait, bool leaving,
                                std::chrono::milliseconds timeout) {
  const std::int64_t number = ++session.syncs_sent;
  protocol::SyncUp up;
  up.number = number;  // two calls may be under way: the controller ignores what was overtaken
  up.incarnation = session.incarnation;
  up.boot_id = session.boot_id;
  const auto inventory = session.inventory;
  if (inventory) up.inventory = *inventory;
  up.labels = session.labels;
  up.runs = session.runner->observed();
  Runner::Relay relay = session.runner->relay();
  up.relay_calls = std::move(relay.calls);
  up.relay_results = std::move(relay.results);
  up.wait = wait;
  up.leaving = leaving;
  const std::int64_t sent_ns = session.clock.monotonic_ns();
  const Result<protocol::SyncDown> down =
      co_await session.client.call(protocol::kSync, session.identity.agent_id, {}, up, timeout);
  if (!down) {
    take_failure(session, down.error());
    co_return false;
  }
  // An older exchange that is answered late describes a wish that is no longer the newest.
  if (number < session.newest_answered) co_return true;
  session.newest_answered = number;
  if (session.sync_complaints.settle()) log::info("the controller answers again");
  session.lease.answered(sent_ns, down->lease_s);
  if (session.inventory == inventory) session.inventory.reset();  // else there is a newer one
  if (!leaving) session.runner->apply(*down);
  // A run that came after a long idle poll starts on a fresh lease only: ask again at once.
  if (!leaving && session.lease.must_fence(session.clock.monotonic_ns()))
    session.states_changed.set();
  co_return true;
}

asio::awaitable<void> sync_loop(Session& session) {
  Backoff backoff;
  bool wait = false;
  while (!session.stopping && session.fatal.empty()) {
    const bool answered = co_await sync_once(session, wait, false, poll_timeout(session));
    if (!session.fatal.empty()) co_return;
    wait = answered;
    if (answered) {
      backoff.reset();
    } else {
      co_await net::sleep_for(backoff.next());
    }
  }
}

asio::awaitable<void> news_loop(Session& session) {
  while (!session.stopping && session.fatal.empty()) {
    const double beat_s = std::max(session.lease.lease_s() / 6, 0.25);
    const bool news = co_await session.states_changed.wait(
        std::chrono::milliseconds(static_cast<std::int64_t>(beat_s * 1000)));
    if (session.stopping || (!news && !session.runner->busy())) continue;
    if (co_await sync_once(session, false, false, 5s)) continue;
    co_await net::sleep_for(retry_after(session));
    if (session.runner->busy()) session.states_changed.set();  // it lives on the lease
  }
}

}  // namespace rackmark::agent
