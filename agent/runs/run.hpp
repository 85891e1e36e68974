// One run on this host, from "wanted" to "nothing of it is left". Owned and called by the runner's
// thread only.
//
//   waiting --start()--> running --guard ended--> draining --> clearing --> ended
//                  \-> ready --daemon called for--^
//   (found on disk after a restart: running without pipes, or ended)
//
// Clearing lasts until nothing is left. Where a process cannot be killed (in the kernel's hands: a
// dead disk, a wedged driver), how the run ended is told before that, and this host stays taken.
//
// Of a run over several agents, the head runs mpirun; the others are ready for the daemon that the
// head's mpirun calls for; inside one allocation of Slurm the head runs srun, and the others watch
// what slurmd starts. Each agent sees and tells of the ranks on its own host.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/launch/launch.hpp"
#include "agent/launch/rank_shape.hpp"
#include "agent/process/guard.hpp"
#include "agent/runs/event_socket.hpp"
#include "agent/runs/outcome.hpp"
#include "agent/runs/rank_tracker.hpp"
#include "agent/runs/relay_socket.hpp"
#include "agent/runs/run_folder.hpp"
#include "agent/runs/stack.hpp"
#include "agent/spool.hpp"
#include "common/clock.hpp"
#include "common/protocol/agents.hpp"

namespace rackmark::agent {

// What is the same for all runs of an agent.
struct RunHost {
  std::filesystem::path state;   // runs are below state/runs
  std::string self;              // rackmark-agent, for the guard
  std::filesystem::path worker;  // rackmark-worker
  std::vector<std::string> data_roots;
  std::string mark;  // RunMark::agent
  ContainmentKind containment = ContainmentKind::kProcSweep;
  std::int64_t physical_cores = 1;
  bool affinity_restricted = false;
  std::int64_t grace_ms = 1000;          // between SIGTERM and SIGKILL
  std::int64_t clear_ms = 20'000;        // for what was killed to go, before the end is told
  std::string rank_ports, launch_ports;  // "first-last" of runs over several agents; "" = any
  std::string openmpi_version;           // as mpirun says; "unknown": there is none
  std::int64_t slurm_job = 0;            // the allocation around this agent; 0: none
};

class Run {
 public:
  Run(const RunHost& host, const Clock& clock, Spool& spool, protocol::WantedRun wanted);
  // What an earlier process of this agent left; nullopt when the folder says nothing.
  static std::optional<Run> recover(const RunHost& host, const Clock& clock, Spool& spool,
                                    std::int64_t run_id);

  std::int64_t id() const { return wanted_.run_id; }
  void start();  // never throws: what fails is the end of the run
  void request_stop(StopCause cause, std::string detail);
  void add_to(std::vector<pollfd>& fds) const;
  void service();  // reads, watches, goes on; call after every poll and at least every 100 ms

  bool waiting() const { return phase_ == Phase::kWaiting; }
  bool over() const { return phase_ == Phase::kEnded; }  // terminal, and nothing left on the host
  const protocol::ObservedRun& observed() const { return observed_; }

  // The relay, of a run over several agents. Head: calls that are open, and their answers. Others:
  // the call for this host's daemon, and how the daemon ended.
  std::vector<protocol::RelayCall> relay_calls() const;
  std::optional<protocol::RelayResult> relay_result() const { return relay_result_; }
  void take_relay_call(const protocol::RelayCall& call);
  void take_relay_result(const protocol::RelayResult& result);
  std::int64_t relay_changes() const { return relay_changes_; }  // grows with each change of them

  void remove_traces() const { folder_.remove(); }

 private:
  enum class Phase { kWaiting, kReady, kRunning, kDraining, kClearing, kEnded };

  bool gang() const { return wanted_.hosts.size() > 1; }
  bool head() const { return wanted_.position == 0; }
  bool in_step() const { return gang() && !wanted_.slurm_nodes.empty(); }
  void start_processes();
  std::map<std::string, std::string> inherited() const;  // what of its own the agent hands on
  void start_alone(const RankShape& shape, const std::filesystem::path& scratch);
  void start_head(const RankShape& shape, const std::filesystem::path& scratch);
  void be_ready(const RankShape& shape, const std::filesystem::path& scratch);
  void prepare_place(const RankShape& shape, const std::filesystem::path& scratch);
  void start_under_guard(std::vector<std::string> argv, std::vector<std::string> environment);
  void write_order(std::vector<std::string> argv, std::vector<std::string> environment);
  void answer_remote_shell(std::int64_t id, const RelayRequest& request);
  void start_daemon();
  std::filesystem::path make_run_scratch() const;
  void start_in_step(const RankShape& shape, const std::filesystem::path& scratch);
  void start_step(const RankShape& shape);
  void watch_seats(const std::filesystem::path& scratch);
  void begin_stall();
  void end_stall();
  void note_daemon_end();
  nlohmann::json spec_for_worker();
  void read_everything();
  bool read_events();
  void read_output(UniqueFd& fd, LineReader& reader, const char* stream);
  void take_event(std::string_view line, pid_t peer);
  void take_output(std::string_view line, const char* stream);
  void say(std::string text);  // a line of the agent's own in the run's log
  void watch();
  bool guard_has_ended();
  void drain();
  void clear();
  void tell_end(const std::vector<pid_t>& left);
  std::string name_left(const std::vector<pid_t>& left);
  void flush_if_due(bool now);
  void flush();
  void end(RunEnd end);
  void refuse(RunState state, Reason reason, std::string detail);  // ended before it started

  const RunHost* host_;
  const Clock* clock_;
  Spool* spool_;
  protocol::WantedRun wanted_;
  RunFolder folder_;
  Phase phase_ = Phase::kWaiting;
  protocol::ObservedRun observed_;

  GuardedProcess guard_;
  std::optional<GuardOrder> order_;
  bool recovered_ = false;
  std::int64_t guard_start_ticks_ = 0;
  EventSocket events_socket_;
  RelaySocket relay_socket_;
  std::map<std::int64_t, protocol::RelayCall> relay_calls_;  // head: open
  std::optional<protocol::RelayCall> relay_call_;            // others: what was called for
  std::optional<protocol::RelayResult> relay_result_;
  std::int64_t relay_changes_ = 0;
  std::vector<std::string> place_;  // environment of daemon and ranks on this host
  StackTrace stack_;
  std::optional<std::int64_t> stall_since_ns_;
  LineReader out_lines_{8192}, err_lines_{8192};
  LineTags tags_ = LineTags::kMpirun;
  RankTracker ranks_{0, std::nullopt, 0};
  std::deque<std::string> last_stderr_;
  EndFacts facts_;
  std::int64_t garbage_lines_ = 0;

  protocol::EventBatch batch_;
  std::size_t batch_bytes_ = 0;
  std::int64_t flushed_ns_ = 0;
  std::int64_t started_ns_ = 0, phase_since_ns_ = 0;
  std::optional<std::int64_t> failed_ns_;
  std::int64_t memory_kills_before_ = 0;
};

}  // namespace rackmark::agent
