// What the functions of the Writer share: the connection, the clock, what is kept in memory, and
// the change (transaction) under way. Internal to controller/service.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/clock.hpp"
#include "common/protocol/agents.hpp"
#include "controller/service/notices.hpp"
#include "controller/service/settings.hpp"
#include "controller/store/transaction.hpp"

namespace rackmark::service {

// Newest step times per rank, for live progress. Lost at a restart: the next batches refill it.
struct RecentSteps {
  std::string phase;
  std::map<std::int64_t, std::map<std::int64_t, float>> ms_by_rank;  // rank -> step -> ms
};

// The relay of one run: what its head agent wants started elsewhere, and how that ended.
struct RunRelay {
  std::map<std::int64_t, protocol::RelayCall> calls;      // by call id
  std::map<std::int64_t, protocol::RelayResult> results;  // by call id
};

// State that a restart may forget. Leases and deadlines are on the monotonic clock: a step of the
// wall clock must not lose agents or time out runs.
struct Memory {
  std::map<std::int64_t, std::int64_t> last_sync_ns;  // agent -> when it synced (or we started)
  std::map<std::int64_t, std::int64_t> deadline_ns;   // run -> when it is ended from here
  std::map<std::int64_t, std::int64_t> heard_ns;  // run that ended -> its newest batch, or the end
  std::map<std::int64_t, std::string> last_told;  // agent -> what its last answer said
  // agent -> runs of its last sync that are over and empty there
  std::map<std::int64_t, std::vector<std::int64_t>> reported;
  std::map<std::int64_t, RecentSteps> recent;                     // run -> newest steps
  std::map<std::int64_t, RunRelay> relay;                         // by run
  std::map<std::int64_t, std::map<std::int64_t, RunState>> seen;  // run -> agent -> its state there
  std::int64_t next_cleaning_ns = 0;
};

struct Core {
  store::Database& db;
  const Clock& clock;
  const Settings& settings;
  const Notices& notices;
  std::string controller_uuid;
  Memory memory;
  // A change was undone by an exception: a full disk, most likely. The next tick tries to write.
  bool write_failed = false;
};

// One change of state. What it touched is told once, as it is at the end of it, after the commit.
class Change {
 public:
  explicit Change(Core& core_ref) : core(core_ref), tx(core_ref.db, core_ref.clock.wall_us()) {}
  ~Change() {
    if (std::uncaught_exceptions() > exceptions_) core.write_failed = true;
  }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

  Core& core;
  store::Transaction tx;

  store::Database& db() { return tx.db(); }
  std::int64_t now_us() const { return tx.now_us(); }

  void touch_job(std::int64_t id) { jobs_.insert(id); }
  void touch_run(std::int64_t id) { runs_.insert(id); }
  void touch_agent(std::int64_t id) { agents_.insert(id); }
  void wake(std::int64_t agent_id) { wake_.insert(agent_id); }
  void live(LiveEvent event) { live_.push_back(std::move(event)); }
  void place_later() { place_ = true; }  // hosts or jobs became free: the plan may change

  // What is kept in memory of a run that is over, or of an agent that is lost, goes once the change
  // is durable: where the commit fails, the same must be found again.
  void forget_run(std::int64_t id) { over_.insert(id); }
  void forget_agent(std::int64_t id) { lost_.insert(id); }

  void place_now();  // if place_later() was called

  // Places, writes the event log, commits, and tells. Without it everything is undone.
  void finish();

 private:
  std::vector<EventLogEntry> log_events();
  void forget();

  std::set<std::int64_t> jobs_, runs_, agents_, wake_, over_, lost_;
  std::vector<LiveEvent> live_;
  bool place_ = false;
  const int exceptions_ = std::uncaught_exceptions();
};

}  // namespace rackmark::service
