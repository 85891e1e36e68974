#include "agent/runs/run.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "agent/launch/launch.hpp"
#include "agent/process/spawn.hpp"
#include "agent/runs/host_facts.hpp"
#include "agent/runs/mpirun_output.hpp"
#include "agent/runs/srun_output.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;
using protocol::WantedRun;

namespace {

constexpr std::int64_t kFlushEveryNs = 250'000'000;
constexpr std::size_t kBatchBytes = std::size_t{256} << 10;
constexpr std::size_t kLogBytesPerBatch = std::size_t{128} << 10;  // a flood is counted, not kept
constexpr std::int64_t kDrainNs = 1'000'000'000;
constexpr std::int64_t kFailureGraceNs = 5'000'000'000;
constexpr std::size_t kLastLines = 24;
// After a stall was seen, so that every agent of the run sees it too and a debugger can look.
constexpr std::int64_t kStallGraceNs = 4'000'000'000;

std::optional<double> number_of(const nlohmann::json& spec, const char* name) {
  if (!spec.is_object()) return std::nullopt;
  const auto it = spec.find(name);
  if (it == spec.end() || !it->is_number()) return std::nullopt;
  return it->get<double>();
}

TaggedLine line_by_rank(LineTags tags, std::string_view line, const char* stream) {
  if (tags == LineTags::kOneRank) return {0, stream, valid_utf8(line)};
  return tags == LineTags::kSrun ? parse_labelled_line(line, stream)
                                 : parse_tagged_line(line, stream);
}

// How a run ended that an earlier process of this agent had started.
RunEnd end_unseen(const std::optional<GuardOutcome>& guard) {
  RunEnd how{RunState::kFailed, Reason::kAgentRestarted,
             "the agent ended while this run was on; its guard ended the workers", std::nullopt,
             nullptr};
  if (!guard) return how;
  if (guard->cause == GuardCause::kExited)
    how.detail = "the agent ended and did not see the end of this run";
  how.exit_code = guard->exit_code;
  if (guard->cause == GuardCause::kNotStarted) {
    how.reason = Reason::kLaunchFailed;
    how.detail = guard->error;
  }
  return how;
}

}  // namespace

Run::Run(const RunHost& host, const Clock& clock, Spool& spool, WantedRun wanted)
    : host_(&host),
      clock_(&clock),
      spool_(&spool),
      wanted_(std::move(wanted)),
      folder_(host.state / "runs", wanted_.run_id) {
  observed_.run_id = wanted_.run_id;
  observed_.state = RunState::kReserved;
  observed_.at = rfc3339(clock_->wall_us());
  observed_.last_seq = spool_->last_seq(wanted_.run_id);
  flushed_ns_ = clock_->monotonic_ns();
}

std::optional<Run> Run::recover(const RunHost& host, const Clock& clock, Spool& spool,
                                std::int64_t run_id) {
  const RunFolder folder(host.state / "runs", run_id);
  const auto record = folder.read_record();
  if (!record || record->wanted.run_id != run_id) return std::nullopt;
  Run run(host, clock, spool, record->wanted);
  if (auto end = folder.read_end()) {
    run.observed_ = std::move(*end);
    run.observed_.last_seq = spool.last_seq(run_id);
  }
  run.recovered_ = true;
  run.order_ = read_guard_order(folder.path());
  run.guard_.pid = static_cast<pid_t>(record->guard_pid);
  run.guard_start_ticks_ = record->guard_start_ticks;
  run.observed_.all_gone = false;
  run.phase_since_ns_ = clock.monotonic_ns();
  run.phase_ = Phase::kRunning;
  return run;
}

// --- start ---------------------------------------------------------------------------------------

void Run::start() {
  try {
    folder_.create();
    folder_.write_record({wanted_, 0, 0});
    start_processes();
  } catch (const std::system_error& error) {
    const bool full = error.code().value() == ENOSPC || error.code().value() == EDQUOT;
    refuse(RunState::kFailed, full ? Reason::kDiskFull : Reason::kLaunchFailed, error.what());
  } catch (const std::exception& error) {
    refuse(RunState::kFailed, Reason::kLaunchFailed, error.what());
  }
}

void Run::start_processes() {
  const auto shape =
      rank_shape(wanted_.spec, gang() ? static_cast<std::int64_t>(wanted_.hosts.size()) : 1);
  if (!shape) return refuse(RunState::kFailed, Reason::kSpecUnsupported, shape.error().message);
  const nlohmann::json spec = spec_for_worker();
  if (spec.is_null()) return;
  folder_.write_spec(spec);

  const fs::path scratch = make_run_scratch();
  RankPlace place{shape->counts, 0, {}};
  if (gang()) place = {shape->counts, wanted_.position, wanted_.hosts};
  events_socket_ = EventSocket(scratch / "events", static_cast<std::size_t>(place.count()) + 8);
  // Slurm's tasks stay where Slurm accounts for them, outside of any cgroup or namespace of ours.
  const Containment containment = Containment::create(
      in_step() ? ContainmentKind::kProcSweep : host_->containment, {id(), host_->mark});
  order_ = GuardOrder{.run_id = id(),
                      .agent_mark = host_->mark,
                      .containment = to_string(containment.kind),
                      .cgroup = containment.cgroup.string(),
                      .scratch = scratch.string(),
                      .argv = {},
                      .environment = {},
                      .grace_ms = host_->grace_ms};
  started_ns_ = phase_since_ns_ = clock_->monotonic_ns();
  // A step of the largest batch that fits may take many minutes.
  const bool largest_batch = wanted_.spec.value("batch_size", nlohmann::json()) == "max";
  ranks_ = RankTracker(std::move(place), number_of(wanted_.spec, "stall_s"), started_ns_,
                       largest_batch ? 3600 : 300);
  memory_kills_before_ = memory_killer_count();
  if (!gang()) return start_alone(*shape, scratch);
  if (in_step()) return start_in_step(*shape, scratch);
  head() ? start_head(*shape, scratch) : be_ready(*shape, scratch);
}

// A service may have no HOME in which the worker would keep its plans for GPUs.
std::map<std::string, std::string> Run::inherited() const {
  auto environment = own_environment();
  environment.emplace("RACKMARK_PLAN_CACHE", (host_->state / "plans").string());
  return environment;
}

void Run::start_alone(const RankShape& shape, const fs::path& scratch) {
  auto launch = plan_launch({.run_id = id(),
                             .agent_mark = host_->mark,
                             .ranks = ranks_on_host(shape.counts, 0),
                             .threads = shape.threads,
                             .physical_cores = host_->physical_cores,
                             .affinity_restricted = host_->affinity_restricted,
                             .root = ::geteuid() == 0,
                             .no_mpirun = host_->openmpi_version == "unknown",
                             .worker = host_->worker,
                             .spec_file = folder_.spec_file(),
                             .scratch = scratch,
                             .events_socket = scratch / "events",
                             .inherited = inherited()});
  if (!launch) return refuse(RunState::kFailed, Reason::kLaunchFailed, launch.error().message);
  tags_ = launch->tags;
  if (tags_ == LineTags::kOneRank) facts_.program = "the worker";
  start_under_guard(std::move(launch->argv), std::move(launch->environment));
}

// Links under fixed names, since mpirun knows one command for all hosts and agents may live
// anywhere.
void Run::prepare_place(const RankShape& shape, const fs::path& scratch) {
  const fs::path bin = scratch / "bin";
  fs::create_directory(bin);
  fs::create_symlink(host_->worker, bin / kRankProgram);
  fs::create_symlink(host_->self, bin / kRemoteShellName);
  auto place = rank_environment({.run_id = id(),
                                 .agent_mark = host_->mark,
                                 .threads = shape.threads,
                                 .interface = interface_in(wanted_.network),
                                 .scratch = scratch,
                                 .bin = bin,
                                 .spec_file = folder_.spec_file(),
                                 .events_socket = scratch / "events",
                                 .inherited = inherited()});
  if (!place) throw std::runtime_error(place.error().message);
  place_ = std::move(*place);
}

void Run::start_head(const RankShape& shape, const fs::path& scratch) {
  prepare_place(shape, scratch);
  const GangInput input{.run_id = id(),
                        .agent_mark = host_->mark,
                        .counts = shape.counts,
                        .threads = shape.threads,
                        .physical_cores = host_->physical_cores,
                        .affinity_restricted = host_->affinity_restricted,
                        .root = ::geteuid() == 0,
                        .network = wanted_.network,
                        .rank_ports = host_->rank_ports,
                        .launch_ports = host_->launch_ports,
                        .scratch = scratch,
                        .remote_shell = scratch / "bin" / kRemoteShellName,
                        .relay_socket = scratch / "relay",
                        .run_token = wanted_.run_token,
                        .inherited = inherited()};
  auto launch =
      uses_prrte(host_->openmpi_version) ? plan_gang_launch_prrte(input) : plan_gang_launch(input);
  if (!launch) return refuse(RunState::kFailed, Reason::kLaunchFailed, launch.error().message);
  relay_socket_ = RelaySocket(input.relay_socket, wanted_.hosts.size() + 8);
  start_under_guard(std::move(launch->argv), std::move(launch->environment));
}

void Run::be_ready(const RankShape& shape, const fs::path& scratch) {
  prepare_place(shape, scratch);
  write_order({}, {});  // what there is to clear up, should this process end
  phase_ = Phase::kReady;
  observed_.state = RunState::kStarting;
  observed_.at = rfc3339(clock_->wall_us());
  if (relay_call_) start_daemon();
}

void Run::write_order(std::vector<std::string> argv, std::vector<std::string> environment) {
  order_->argv = std::move(argv);
  order_->environment = std::move(environment);
  write_guard_order(folder_.path(), *order_);
}

void Run::start_under_guard(std::vector<std::string> argv, std::vector<std::string> environment) {
  write_order(std::move(argv), std::move(environment));
  guard_ = start_guard(host_->self, folder_.path());
  phase_ = Phase::kRunning;
  guard_start_ticks_ = static_cast<std::int64_t>(start_ticks(guard_.pid).value_or(0));
  folder_.write_record({wanted_, guard_.pid, guard_start_ticks_});
  observed_.state = RunState::kStarting;
  observed_.at = rfc3339(clock_->wall_us());
}

// The spec with its input path made real; null after refuse().
nlohmann::json Run::spec_for_worker() {
  nlohmann::json spec = wanted_.spec;
  const auto input = spec.find("input");
  if (input == spec.end() || !input->is_object()) return spec;
  const auto path = input->find("path");
  if (path == input->end() || path->is_null()) return spec;
  const std::string wanted = path->is_string() ? path->get<std::string>() : path->dump();
  const auto real = resolve_input(wanted, host_->data_roots);
  if (real) {
    *path = real->string();
    return spec;
  }
  std::string roots;
  for (const auto& root : host_->data_roots) roots += (roots.empty() ? "" : ", ") + root;
  refuse(RunState::kFailed, Reason::kInputUnavailable,
         fmt::format("input.path {} is not inside this agent's data roots ({})", wanted,
                     roots.empty() ? "it has none: start it with --data-root" : roots));
  return nullptr;
}

void Run::refuse(RunState state, Reason reason, std::string detail) {
  if (guard_.pid != 0 && phase_ == Phase::kRunning) {
    // The disk filled up right after the start: the guard clears up when its pipe closes.
    request_stop(StopCause::kDiskFull, std::move(detail));
    return;
  }
  if (order_) {
    containment_of(*order_).remove();
    remove_scratch(order_->scratch);
  }
  end({state, reason, std::move(detail), std::nullopt, nullptr});
  observed_.all_gone = true;
  phase_ = Phase::kEnded;
}

// --- while it runs -------------------------------------------------------------------------------

void Run::request_stop(StopCause cause, std::string detail) {
  if (phase_ == Phase::kWaiting || phase_ == Phase::kReady) {
    facts_.stop = cause;
    facts_.stop_detail = std::move(detail);
    const RunEnd how = decide_end(facts_, ranks_, wanted_.spec);
    return refuse(how.state, how.reason, how.detail);
  }
  if (phase_ != Phase::kRunning || facts_.stop != StopCause::kNone || recovered_) return;
  facts_.stop = cause;
  facts_.stop_detail = std::move(detail);
  ranks_.ignore_failures();
  say(facts_.stop_detail);
  // A fenced run may be given to another host in moments: no time for politeness.
  if (cause == StopCause::kLeaseLost) {
    guard_.ask_to_kill();
  } else {
    guard_.ask_to_stop();
  }
}

void Run::add_to(std::vector<pollfd>& fds) const {
  if (phase_ == Phase::kEnded) return;
  // Once the guard has ended its descriptor stays readable: waiting for it would not wait.
  if (phase_ == Phase::kRunning && guard_.ended) fds.push_back({guard_.ended.get(), POLLIN, 0});
  for (const auto* fd : {&guard_.out, &guard_.err}) {
    if (*fd) fds.push_back({fd->get(), POLLIN, 0});
  }
  events_socket_.add_to(fds);
  relay_socket_.add_to(fds);
}

void Run::service() {
  if (phase_ == Phase::kWaiting || phase_ == Phase::kEnded) return;
  if (!recovered_) read_everything();
  switch (phase_) {
    case Phase::kRunning:
      if (guard_has_ended()) {
        phase_ = Phase::kDraining;
        phase_since_ns_ = clock_->monotonic_ns();
        drain();
      } else if (!recovered_) {
        watch();
      }
      break;
    case Phase::kReady:
      watch();
      break;
    case Phase::kDraining:
      drain();
      break;
    case Phase::kClearing:
      clear();
      break;
    case Phase::kWaiting:
    case Phase::kEnded:
      break;
  }
  if (phase_ != Phase::kEnded) flush_if_due(false);
}

void Run::read_everything() {
  relay_socket_.service(
      [this](std::int64_t id, RelayRequest request) { answer_remote_shell(id, request); },
      [this](std::int64_t id) {
        if (relay_calls_.erase(id) != 0) ++relay_changes_;
      });
  read_events();
  read_output(guard_.out, out_lines_, "stdout");
  read_output(guard_.err, err_lines_, "stderr");
}

// True when every rank has closed its connection.
bool Run::read_events() {
  return events_socket_.service(
      [this](std::string_view line, pid_t peer) { take_event(line, peer); },
      [this](std::string text) { say(std::move(text)); });
}

void Run::read_output(UniqueFd& fd, LineReader& reader, const char* stream) {
  std::array<char, 65536> buffer{};
  auto take = [&](std::string_view line, bool) { take_output(line, stream); };
  for (int turn = 0; fd && turn < 8; ++turn) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      reader.end(take);
      fd.reset();
      return;
    }
    reader.feed({buffer.data(), static_cast<std::size_t>(n)}, take);
  }
}

void Run::take_event(std::string_view line, pid_t peer) {
  auto parsed = json::parse(line);
  const std::int64_t now = clock_->monotonic_ns();
  if (!parsed || !ranks_.take(*parsed, now, peer)) {
    if (++garbage_lines_ <= 20) say("not a worker event: " + valid_utf8(line.substr(0, 200)));
    return;
  }
  if ((ranks_.failure() || ranks_.out_of_memory()) && !failed_ns_) failed_ns_ = now;
  batch_.events.push_back(std::move(*parsed));
  batch_bytes_ += line.size();
  flush_if_due(false);
}

void Run::take_output(std::string_view line, const char* stream) {
  TaggedLine tagged = line_by_rank(tags_, line, stream);
  if (tagged.rank >= 0) tagged.rank = rank_of_launched(ranks_.place().counts, tagged.rank);
  if (tagged.stream == "stderr") {
    last_stderr_.push_back(tagged.text);
    if (last_stderr_.size() > kLastLines) last_stderr_.pop_front();
  }
  std::size_t log_bytes = 0;
  for (const auto& kept : batch_.logs) log_bytes += kept.text.size() + 64;
  if (log_bytes > kLogBytesPerBatch) {
    ++batch_.dropped;
    return;
  }
  batch_bytes_ += tagged.text.size() + 64;
  batch_.logs.push_back(
      {tagged.rank, std::move(tagged.stream), rfc3339(clock_->wall_us()), std::move(tagged.text)});
}

void Run::say(std::string text) {
  batch_bytes_ += text.size() + 64;
  batch_.logs.push_back({-1, "agent", rfc3339(clock_->wall_us()), valid_utf8(text)});
}

void Run::watch() {
  const std::int64_t now = clock_->monotonic_ns();
  const RunState state = ranks_.state();
  if (may_follow(observed_.state, state)) {
    observed_.state = state;
    observed_.at = rfc3339(clock_->wall_us());
  }
  if (facts_.stop != StopCause::kNone) return;
  const double ran_s = static_cast<double>(now - started_ns_) * 1e-9;
  if (wanted_.timeout_s > 0 && ran_s > wanted_.timeout_s)
    return request_stop(StopCause::kTimedOut,
                        fmt::format("not done after {:g} s (timeout_s)", wanted_.timeout_s));
  if (failed_ns_ && now - *failed_ns_ > kFailureGraceNs)
    return request_stop(StopCause::kAfterFailure, "a rank failed and the others did not end");
  if (phase_ != Phase::kRunning) return;
  if (!stall_since_ns_ && ranks_.stalled(now)) begin_stall();
  if (!stall_since_ns_) return;
  const bool looked = !gang() && !stack_.running();
  if (looked || now - *stall_since_ns_ > kStallGraceNs) end_stall();
}

// Which rank holds up the others shows in the kernel's view of it: one that waits for its peers is
// awake, or asleep in a call; one that was stopped says so. Else the one that did fewer steps.
void Run::begin_stall() {
  stall_since_ns_ = clock_->monotonic_ns();
  std::vector<protocol::StallReport> reports;
  std::vector<std::int64_t> pids;
  for (const Stall& stall : ranks_.silences(*stall_since_ns_)) {
    if (stall.silent_s <= stall.limit_s / 2) continue;
    reports.push_back({stall.rank, stall.steps, stall.host, stall.phase,
                       process_state(static_cast<pid_t>(stall.pid)), stall.silent_s,
                       stall.limit_s});
    pids.push_back(stall.pid);
  }
  const std::size_t stuck = protocol::likely_culprit(reports);
  observed_.stall = reports[stuck];
  const auto pid = static_cast<pid_t>(pids[stuck]);
  if (gang()) observed_.stall->host = wanted_.hosts[static_cast<std::size_t>(wanted_.position)];
  say(fmt::format("rank {} (process {}) made no progress for {:.1f} s; its threads in the kernel:",
                  observed_.stall->rank, pid, observed_.stall->silent_s));
  for (auto& line : kernel_view(pid)) say(std::move(line));
  stack_ = StackTrace(pid, folder_.path() / "stack.txt");
}

void Run::end_stall() {
  stack_.stop();
  const auto frames = stack_.lines();
  if (!frames.empty()) say(fmt::format("stack of rank {}:", observed_.stall->rank));
  for (const auto& frame : frames) say(frame);
  const protocol::StallReport& stall = *observed_.stall;
  request_stop(
      StopCause::kStalled,
      fmt::format("no progress of rank {} on {} in phase {} for {:.1f} s (limit {:g} s){}{}",
                  stall.rank, stall.host.empty() ? "this host" : stall.host, stall.phase,
                  stall.silent_s, stall.limit_s,
                  stall.process_state.empty() ? "" : "; its process is " + stall.process_state,
                  frames.empty() ? "" : "; its stack is in the run's log"));
}

// --- the end -------------------------------------------------------------------------------------

bool Run::guard_has_ended() {
  if (recovered_) {
    // Not our child any more. Its pid may belong to somebody else by now: the start time tells.
    const auto ticks = guard_.pid > 0 ? start_ticks(guard_.pid) : std::nullopt;
    return !ticks || static_cast<std::int64_t>(*ticks) != guard_start_ticks_;
  }
  int status = 0;
  return ::waitpid(guard_.pid, &status, WNOHANG) == guard_.pid;
}

// All writers are dead or about to be: read what they left in the pipes and sockets.
void Run::drain() {
  facts_.guard = read_guard_outcome(folder_.path());
  const bool quiet = recovered_ || (!guard_.out && !guard_.err && read_events());
  const std::int64_t waited_ns = clock_->monotonic_ns() - phase_since_ns_;
  if (!quiet && facts_.guard && waited_ns < kDrainNs) return;
  // The agent died between starting the guard and noting its pid: give that guard time to act.
  if (recovered_ && order_ && guard_.pid == 0 && !facts_.guard && waited_ns < 2 * kDrainNs) return;
  phase_ = Phase::kClearing;
  phase_since_ns_ = clock_->monotonic_ns();
  clear();
}

// The guard left nothing, or it was killed itself and the rest is ours to end.
void Run::clear() {
  if (order_) {
    const Containment containment = containment_of(*order_);
    const auto left = containment.kill_pass();
    for (const pid_t pid : left) ::waitpid(pid, nullptr, WNOHANG);
    if (!left.empty()) {
      const std::int64_t waited_ns = clock_->monotonic_ns() - phase_since_ns_;
      if (!is_terminal(observed_.state) && waited_ns > host_->clear_ms * 1'000'000) tell_end(left);
      return;
    }
    stack_.stop();
    containment.remove();
    remove_scratch(order_->scratch);
  }
  if (!is_terminal(observed_.state)) tell_end({});
  observed_.all_gone = true;
  phase_ = Phase::kEnded;
}

// `left`: what could not be killed.
void Run::tell_end(const std::vector<pid_t>& left) {
  RunEnd how;
  if (recovered_) {
    how = end_unseen(facts_.guard);
  } else {
    if (gang() && !head() && !in_step()) facts_.program = "the daemon of this host";
    facts_.last_stderr.assign(last_stderr_.begin(), last_stderr_.end());
    facts_.memory_killer = memory_killer_count() > memory_kills_before_;
    how = decide_end(facts_, ranks_, wanted_.spec);
  }
  if (!left.empty()) how.detail += (how.detail.empty() ? "" : "; ") + name_left(left);
  end(std::move(how));
  if (!recovered_) note_daemon_end();
}

// In words; what they do in the kernel goes into the run's log.
std::string Run::name_left(const std::vector<pid_t>& left) {
  constexpr std::size_t kNamed = 8;
  std::string names;
  for (std::size_t i = 0; i < std::min(left.size(), kNamed); ++i) {
    names += fmt::format("{}process {} {}", i == 0 ? "" : ", ", left[i], process_state(left[i]));
    say(fmt::format("process {} cannot be killed; its threads in the kernel:", left[i]));
    for (auto& line : kernel_view(left[i])) say(std::move(line));
  }
  return fmt::format("{} of its processes cannot be killed, and this host takes no other run: {}",
                     left.size(), names);
}

// A batch that the spool does not take is kept: only a run that is on is ended for it at once. Then
// it is tried again now and then, and at the end for the last time.
void Run::flush_if_due(bool now) {
  const std::int64_t at = clock_->monotonic_ns();
  const bool full = batch_bytes_ >= kBatchBytes && facts_.stop != StopCause::kDiskFull;
  if (!now && at - flushed_ns_ < kFlushEveryNs && !full) return;
  flushed_ns_ = at;
  try {
    flush();
  } catch (const std::system_error& error) {
    request_stop(StopCause::kDiskFull, std::string("the spool cannot be written: ") + error.what());
    if (now) throw;
  }
}

void Run::flush() {
  if (batch_.events.empty() && batch_.logs.empty() && batch_.dropped == 0) return;
  batch_.run_id = id();
  observed_.last_seq = spool_->append(batch_);
  batch_ = {};
  batch_bytes_ = 0;
}

// The state is terminal only together with its last batch and its trace on disk.
void Run::end(RunEnd how) {
  try {
    flush_if_due(true);
  } catch (const std::system_error& error) {
    how = {RunState::kFailed, Reason::kDiskFull, error.what(), how.exit_code, nullptr};
  }
  observed_.state = how.state;
  observed_.reason = how.reason;
  observed_.detail = std::move(how.detail);
  observed_.exit_code = how.exit_code;
  observed_.memory = std::move(how.memory);
  observed_.at = rfc3339(clock_->wall_us());
  try {
    protocol::ObservedRun kept = observed_;
    kept.all_gone = true;
    folder_.create();  // a run that was ended while it waited has none yet
    folder_.write_end(kept);
    if (!folder_.read_record()) folder_.write_record({wanted_, 0, 0});
  } catch (const std::exception&) {
    // Without end.json a restarted agent would say agent_restarted; this process still knows.
  }
  events_socket_ = EventSocket();
}

}  // namespace rackmark::agent
