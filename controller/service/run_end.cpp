#include "controller/service/run_end.hpp"

namespace rackmark::service {

namespace {

// The less, the nearer to the cause.
int distance_from_cause(const HostEnd& end) {
  switch (end.state) {
    case RunState::kOutOfMemory:
      return 0;
    case RunState::kStalled:
      return 2;
    case RunState::kTimeout:
      return 3;
    case RunState::kLost:
      return 4;
    case RunState::kFailed:
      break;
    case RunState::kSucceeded:
      return 100;
    default:  // cancelled, because another agent's part had ended
      return 99;
  }
  switch (end.reason) {
    case Reason::kNoValidSteps:
    case Reason::kNanLoss:
    case Reason::kInputUnavailable:
    case Reason::kInputBroken:
    case Reason::kVerifyFailed:
    case Reason::kDiskFull:
    case Reason::kSpecUnsupported:
      return 1;
    case Reason::kAgentLost:
    case Reason::kAgentRestarted:
    case Reason::kAgentConflict:
      return 4;
    case Reason::kWorkerCrashed:
      return 5;
    case Reason::kLaunchFailed:
      return 6;
    default:
      return 7;
  }
}

RunEnding as_run(const HostEnd& end) {
  return {end.state, end.reason, end.detail, end.exit_code, end.memory, end.agent_at_us};
}

constexpr std::size_t kMaximumDetail = 4000;

void add_detail(std::string& detail, const HostEnd& end) {
  if (end.detail.empty() || detail.find(end.detail) != std::string::npos) return;
  const std::string more = "agent " + end.agent + ": " + end.detail;
  if (detail.size() + more.size() + 2 > kMaximumDetail) return;
  detail += (detail.empty() ? "" : "; ") + more;
}

}  // namespace

RunEnding ending_of(const std::vector<HostEnd>& ends, bool cancel_wanted) {
  if (ends.size() == 1) return as_run(ends.front());
  const HostEnd* cause = &ends.front();
  for (const HostEnd& end : ends) {
    if (distance_from_cause(end) < distance_from_cause(*cause)) cause = &end;
  }
  const bool follower = cause->state == RunState::kCancelled;
  if (follower && ends.front().state == RunState::kSucceeded) return as_run(ends.front());
  RunEnding ending = as_run(*cause);
  if (cancel_wanted || cause->state == RunState::kSucceeded) return ending;
  if (cause->state == RunState::kStalled) {
    std::vector<protocol::StallReport> reports;
    std::vector<const HostEnd*> said;
    for (const HostEnd& end : ends) {
      if (!end.stall) continue;
      reports.push_back(*end.stall);
      said.push_back(&end);
    }
    if (!reports.empty()) {
      const HostEnd& stuck = *said[protocol::likely_culprit(reports)];
      if (stuck.state == RunState::kStalled) ending = as_run(stuck);
    }
    return ending;
  }
  // Several crashes are views of one: the rank, the daemon and mpirun each tell a part.
  const int nearest = distance_from_cause(*cause);
  if (nearest < 4) return ending;
  ending.detail = "agent " + cause->agent + ": " + cause->detail;
  for (const HostEnd& end : ends) {
    const int distance = distance_from_cause(end);
    if (&end != cause && distance < 99 && (nearest >= 5 || distance == 4)) {
      add_detail(ending.detail, end);
    }
  }
  return ending;
}

}  // namespace rackmark::service
