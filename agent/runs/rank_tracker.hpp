// What the ranks of one run have said so far, as pure state: no clock, no I/O. Times are the
// agent's monotonic nanoseconds at which a line was received.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/ranks.hpp"
#include "common/domain/run_state.hpp"
#include "common/protocol/worker_event.hpp"

namespace rackmark::agent {

struct RankFacts {
  bool hello = false, summary = false;
  std::string host, phase = "launch";
  std::int64_t pid = 0;    // on this host
  std::int64_t steps = 0;  // of the current phase
  std::int64_t last_progress_ns = 0, phase_since_ns = 0;
  double measured_s = 0;  // from "measuring" to "collecting"
  // Done: it waits for slower ranks, perhaps of other hosts, and may make profiling passes.
  bool waits() const { return phase == "collecting" && !summary; }
};

struct Stall {
  std::int64_t rank = 0;
  std::string host, phase;
  double silent_s = 0, limit_s = 0;
  std::int64_t steps = 0, pid = 0;
};

// Which ranks of the run are on this host: its workers, then its dedicated servers.
struct RankPlace {
  RankCounts counts;
  std::int64_t position = 0;       // of this host
  std::vector<std::string> hosts;  // the agents of a run over several; else empty

  std::int64_t count() const { return ranks_on_host(counts, position); }
  std::int64_t rank(std::int64_t index) const;                // 0 <= index < count()
  std::optional<std::size_t> index(std::int64_t rank) const;  // nullopt: it is elsewhere
};

class RankTracker {
 public:
  // `stall_s`: of the spec; without it max(60, 20 x median step), and `first_step_s` before the
  // first step.
  RankTracker(RankPlace place, std::optional<double> stall_s, std::int64_t now_ns,
              double first_step_s = 300);
  RankTracker(std::int64_t ranks, std::optional<double> stall_s, std::int64_t now_ns,
              double first_step_s = 300)
      : RankTracker(RankPlace{{1, ranks, 0}, 0, {}}, stall_s, now_ns, first_step_s) {}

  // False when it is not an event of a rank of this run on this host. `pid`: who sent it, since a
  // rank in a PID namespace knows another number of itself; 0: not known.
  bool take(const nlohmann::json& event, std::int64_t now_ns, std::int64_t pid = 0);

  // From the slowest rank's phase: starting, warmup, measuring or collecting.
  RunState state() const;
  bool any_hello() const;
  bool all_summaries() const;
  // The rank whose last progress (hello, phase, steps, summary) is oldest, and beyond its limit.
  // One that is done is as silent as the last rank of this host, and may be for as long as it
  // measured.
  std::optional<Stall> stalled(std::int64_t now_ns) const;
  // Every rank as it stands now, whether or not it is beyond its limit.
  std::vector<Stall> silences(std::int64_t now_ns) const;
  double stall_limit_s() const;  // of a rank at work

  // What came first of each.
  const std::optional<protocol::FailureEvent>& failure() const { return failure_; }
  std::int64_t failed_rank() const { return failed_rank_; }
  const std::optional<protocol::OutOfMemoryEvent>& out_of_memory() const { return memory_; }
  const std::vector<RankFacts>& ranks() const { return ranks_; }  // of this host
  const RankPlace& place() const { return place_; }

  // Once we end the run ourselves, what the ranks say about their end is no cause any more.
  void ignore_failures() { ignore_failures_ = true; }

 private:
  bool take_typed(const std::string& type, const nlohmann::json& event, RankFacts& rank,
                  std::int64_t number, std::int64_t now_ns);
  double stall_limit_s(const RankFacts& rank) const;
  void take_steps(const protocol::StepsEvent& steps, RankFacts& rank);

  RankPlace place_;
  std::vector<RankFacts> ranks_;
  std::optional<double> stall_s_;
  double first_step_s_ = 300;
  std::deque<double> recent_ms_;  // of all ranks, the last 64
  std::optional<protocol::FailureEvent> failure_;
  std::int64_t failed_rank_ = -1;
  std::optional<protocol::OutOfMemoryEvent> memory_;
  bool ignore_failures_ = false;
};

// "rank 1 on a (measuring)"; of a rank elsewhere "rank 3 on agent b"; of a dedicated server "server
// rank 5 on a (measuring)". By its number in the run.
std::string name_rank(const RankTracker& tracker, std::int64_t rank);

}  // namespace rackmark::agent
