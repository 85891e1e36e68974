#include "agent/runs/rank_tracker.hpp"

#include <algorithm>

#include "common/json/described.hpp"

namespace rackmark::agent {

namespace {

constexpr double kLeastStallS = 60, kStepsOfSilence = 20, kLeastWaitS = 300;

int phase_order(const RankFacts& rank) {
  if (rank.summary || rank.phase == "collecting") return 3;
  if (rank.phase == "measuring") return 2;
  return rank.phase == "warmup" ? 1 : 0;
}

template <class T>
std::optional<T> decoded(const nlohmann::json& event) {
  auto value = json::decode<T>(event, json::Unknown::kIgnore);
  if (!value) return std::nullopt;
  return std::move(*value);
}

}  // namespace

std::int64_t RankPlace::rank(std::int64_t index) const {
  const std::int64_t workers = workers_on_host(counts, position);
  if (index < workers) return first_worker_on_host(counts, position) + index;
  return first_server_on_host(counts, position) + index - workers;
}

std::optional<std::size_t> RankPlace::index(std::int64_t rank) const {
  if (rank < 0 || rank >= counts.workers + counts.servers) return std::nullopt;
  const bool server = rank >= counts.workers;
  const std::int64_t first =
      server ? first_server_on_host(counts, position) : first_worker_on_host(counts, position);
  const std::int64_t here =
      server ? servers_on_host(counts, position) : workers_on_host(counts, position);
  if (rank < first || rank >= first + here) return std::nullopt;
  return static_cast<std::size_t>(rank - first + (server ? workers_on_host(counts, position) : 0));
}

RankTracker::RankTracker(RankPlace place, std::optional<double> stall_s, std::int64_t now_ns,
                         double first_step_s)
    : place_(std::move(place)),
      ranks_(static_cast<std::size_t>(place_.count())),
      stall_s_(stall_s),
      first_step_s_(first_step_s) {
  for (auto& rank : ranks_) rank.last_progress_ns = now_ns;
}

bool RankTracker::take(const nlohmann::json& event, std::int64_t now_ns, std::int64_t pid) {
  if (!event.is_object()) return false;
  const auto type = event.find("type");
  const auto rank = event.find("rank");
  if (type == event.end() || !type->is_string() || rank == event.end() ||
      !rank->is_number_integer())
    return false;
  const auto index = place_.index(rank->get<std::int64_t>());
  if (!index) return false;
  RankFacts& facts = ranks_[*index];
  if (!take_typed(type->get<std::string>(), event, facts, rank->get<std::int64_t>(), now_ns))
    return false;
  if (pid != 0) facts.pid = pid;
  // Telemetry comes from a thread of its own and says nothing about progress.
  if (*type != "telemetry") facts.last_progress_ns = now_ns;
  return true;
}

bool RankTracker::take_typed(const std::string& type, const nlohmann::json& event, RankFacts& rank,
                             std::int64_t number, std::int64_t now_ns) {
  if (type == "hello") {
    const auto hello = decoded<protocol::HelloEvent>(event);
    if (!hello) return false;
    rank.hello = true;
    rank.host = hello->host;
    rank.pid = hello->pid;
    return true;
  }
  if (type == "phase") {
    const auto phase = decoded<protocol::PhaseEvent>(event);
    if (!phase) return false;
    if (rank.phase == "measuring" && phase->phase == "collecting")
      rank.measured_s = static_cast<double>(now_ns - rank.phase_since_ns) * 1e-9;
    rank.phase_since_ns = now_ns;
    rank.phase = phase->phase;
    rank.steps = 0;
    return true;
  }
  if (type == "steps") {
    const auto steps = decoded<protocol::StepsEvent>(event);
    if (steps) take_steps(*steps, rank);
    return steps.has_value();
  }
  if (type == "failure") {
    const auto failure = decoded<protocol::FailureEvent>(event);
    if (failure && !failure_ && !ignore_failures_) {
      failure_ = failure;
      failed_rank_ = number;
    }
    return failure.has_value();
  }
  if (type == "out_of_memory") {
    const auto memory = decoded<protocol::OutOfMemoryEvent>(event);
    if (memory && !memory_ && !ignore_failures_) memory_ = memory;
    return memory.has_value();
  }
  if (type == "summary") {
    rank.summary = decoded<protocol::SummaryEvent>(event).has_value();
    return rank.summary;
  }
  if (type == "profile") return decoded<protocol::ProfileEvent>(event).has_value();
  return type == "telemetry" && decoded<protocol::TelemetryEvent>(event).has_value();
}

void RankTracker::take_steps(const protocol::StepsEvent& steps, RankFacts& rank) {
  rank.steps = steps.first_step + static_cast<std::int64_t>(steps.ms.size());
  for (const double ms : steps.ms) recent_ms_.push_back(ms);
  while (recent_ms_.size() > 64) recent_ms_.pop_front();
}

RunState RankTracker::state() const {
  int slowest = 3;
  for (const auto& rank : ranks_) slowest = std::min(slowest, phase_order(rank));
  constexpr RunState kStates[] = {RunState::kStarting, RunState::kWarmup, RunState::kMeasuring,
                                  RunState::kCollecting};
  return kStates[slowest];
}

bool RankTracker::any_hello() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const auto& rank) { return rank.hello; });
}

bool RankTracker::all_summaries() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const auto& rank) { return rank.summary; });
}

double RankTracker::stall_limit_s() const {
  if (stall_s_) return *stall_s_;
  if (recent_ms_.empty()) return first_step_s_;
  std::vector<double> sorted(recent_ms_.begin(), recent_ms_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return std::max(kLeastStallS, kStepsOfSilence * *middle / 1000);
}

double RankTracker::stall_limit_s(const RankFacts& rank) const {
  const double at_work_s = stall_limit_s();
  if (!rank.waits()) return at_work_s;
  return std::max({at_work_s, rank.measured_s, stall_s_ ? 0 : kLeastWaitS});
}

std::vector<Stall> RankTracker::silences(std::int64_t now_ns) const {
  std::int64_t newest_ns = 0;
  for (const RankFacts& rank : ranks_) newest_ns = std::max(newest_ns, rank.last_progress_ns);
  std::vector<Stall> all;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    const RankFacts& rank = ranks_[i];
    const std::int64_t since_ns = rank.waits() ? newest_ns : rank.last_progress_ns;
    all.push_back({place_.rank(static_cast<std::int64_t>(i)), rank.host, rank.phase,
                   static_cast<double>(now_ns - since_ns) * 1e-9, stall_limit_s(rank), rank.steps,
                   rank.pid});
  }
  return all;
}

std::optional<Stall> RankTracker::stalled(std::int64_t now_ns) const {
  std::optional<Stall> worst;
  for (Stall& one : silences(now_ns)) {
    if (one.silent_s > one.limit_s && (!worst || one.silent_s > worst->silent_s))
      worst = std::move(one);
  }
  return worst;
}

std::string name_rank(const RankTracker& tracker, std::int64_t rank) {
  const RankPlace& place = tracker.place();
  const RankCounts& counts = place.counts;
  const bool known = rank >= 0 && rank < counts.workers + counts.servers;
  const char* const what = known && rank >= counts.workers ? "server rank " : "rank ";
  std::string name = what + std::to_string(rank);
  const auto here = place.index(rank);
  if (!here) {
    if (!known || place.hosts.empty()) return name;
    return name + " on agent " + place.hosts[static_cast<std::size_t>(host_of_rank(counts, rank))];
  }
  const RankFacts& facts = tracker.ranks()[*here];
  if (!facts.host.empty()) name += " on " + facts.host;
  return name + " (" + facts.phase + ")";
}

}  // namespace rackmark::agent
