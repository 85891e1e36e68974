// All runs of this host, on one thread that lives as long as the agent (parent-death signals belong
// to threads). One run is on at a time: the next one starts when nothing of the last is left.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "agent/lease.hpp"
#include "agent/process/unique_fd.hpp"
#include "agent/runs/run.hpp"

namespace rackmark::agent {

class Runner {
 public:
  enum class News { kStates, kEvents };  // kEvents: only the spool has more than before
  // `on_change` is called from the runner's thread. The references outlive the runner.
  Runner(RunHost host, const Clock& clock, Spool& spool, const Lease& lease,
         std::function<void(News)> on_change);
  ~Runner();  // stops the thread; guards end what still runs
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void start();  // reads what an earlier process left, then runs the thread

  // Any thread:
  void apply(const protocol::SyncDown& down);  // the controller's whole wish
  void end_all(std::string why);               // orderly shutdown: no new runs either
  void renew(RunHost host);                    // runs that start from now on find this host
  std::vector<protocol::ObservedRun> observed() const;
  struct Relay {
    std::vector<protocol::RelayCall> calls;
    std::vector<protocol::RelayResult> results;
  };
  Relay relay() const;  // of all runs, as a sync tells it
  bool busy() const;    // something is running or not yet cleared

 private:
  void loop();
  void take_wishes();
  void take(const protocol::SyncDown& down);
  void forget(std::int64_t run_id);
  void fence();
  void start_next();
  void take_renewed_host();
  void publish();
  void wake();

  RunHost host_;
  const Clock& clock_;
  Spool& spool_;
  const Lease& lease_;
  std::function<void(News)> on_change_;

  // Only the runner's thread:
  std::map<std::int64_t, Run> runs_;
  std::set<std::int64_t> forgotten_;
  std::string stopping_why_;
  struct Published {
    RunState state = RunState::kReserved;
    bool all_gone = false, stalled = false;
    std::int64_t relay_changes = 0, last_seq = 0;
    bool same_state(const Published& other) const;
  };
  std::map<std::int64_t, Published> published_;

  UniqueFd wake_;
  mutable std::mutex mutex_;
  std::vector<protocol::SyncDown> wishes_;       // guarded by mutex_
  std::string end_all_;                          // guarded by mutex_; "" = no
  std::optional<RunHost> renewed_;               // guarded by mutex_
  std::vector<protocol::ObservedRun> snapshot_;  // guarded by mutex_
  Relay relay_;                                  // guarded by mutex_
  bool busy_ = false, stop_ = false;             // guarded by mutex_
  std::thread thread_;
};

}  // namespace rackmark::agent
