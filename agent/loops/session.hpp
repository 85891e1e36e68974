// What the loops share: who this agent is, what it talks to, and the signals that wake them. Used
// from the network thread only, but for notify().
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "agent/lease.hpp"
#include "agent/loops/identity.hpp"
#include "agent/runs/runner.hpp"
#include "agent/spool.hpp"
#include "common/net/http_client.hpp"
#include "common/protocol/agents.hpp"

namespace rackmark::agent {

// Grows from 0.25 s to `most` with jitter, so that a thousand agents do not come back at once.
class Backoff {
 public:
  explicit Backoff(std::chrono::milliseconds most = std::chrono::seconds(10)) : most_(most) {}
  std::chrono::milliseconds next();
  void reset() { next_ = kFirst; }

 private:
  static constexpr std::chrono::milliseconds kFirst{250};
  std::chrono::milliseconds most_, next_ = kFirst;
  std::minstd_rand random_{std::random_device{}()};
};

// Warns once for each text, until all is well again: what goes on failing fails every few seconds.
class Complaints {
 public:
  void about(const std::string& text);
  bool settle();  // true when there had been any

 private:
  std::set<std::string> said_;
};

// A flag that a coroutine can wait for.
class Signal {
 public:
  explicit Signal(boost::asio::io_context& io) : timer_(io) {}
  void set();
  // True when it was set, also before; false after `limit`. Clears it.
  boost::asio::awaitable<bool> wait(std::chrono::milliseconds limit);

 private:
  boost::asio::steady_timer timer_;
  bool set_ = false;
};

struct Session {
  boost::asio::io_context& io;
  net::HttpClient& client;
  const Clock& clock;
  Lease& lease;
  Spool& spool;
  Runner* runner = nullptr;

  Identity identity;
  std::string incarnation, boot_id;
  std::map<std::string, std::string> labels;
  std::shared_ptr<const protocol::Inventory> inventory;  // until a sync with it was answered

  bool stopping = false;
  std::string fatal;  // why the agent cannot go on; "" = it can
  Signal states_changed, more_events, ended;

  std::int64_t syncs_sent = 0, newest_answered = 0;
  Complaints sync_complaints;

  explicit Session(boost::asio::io_context& context, net::HttpClient& http, const Clock& time,
                   Lease& held, Spool& events)
      : io(context),
        client(http),
        clock(time),
        lease(held),
        spool(events),
        states_changed(context),
        more_events(context),
        ended(context) {}
};

// Asks until the controller answers; fatal is set when it refuses. Stores the identity.
boost::asio::awaitable<void> enrol(Session& session, protocol::Enrolment request,
                                   std::filesystem::path identity_file);

// One exchange of whole state. False: no answer (or a stale one); session.fatal may be set.
boost::asio::awaitable<bool> sync_once(Session& session, bool wait, bool leaving,
                                       std::chrono::milliseconds timeout);
boost::asio::awaitable<void> sync_loop(Session& session);
// Tells news at once, and keeps the lease fresh while a run is on, beside the long poll.
boost::asio::awaitable<void> news_loop(Session& session);

boost::asio::awaitable<void> upload_loop(Session& session);

}  // namespace rackmark::agent
