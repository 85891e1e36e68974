#include "agent/runs/outcome.hpp"

#include <fmt/format.h>
#include <signal.h>

#include <cstring>

#include "agent/process/spawn.hpp"
#include "agent/runs/mpirun_output.hpp"
#include "agent/runs/srun_output.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

namespace {

std::string last_words(const EndFacts& facts) {
  std::string text;
  for (const auto& line : facts.last_stderr) {
    if (line.find_first_not_of(" -=*") == std::string::npos) continue;  // mpirun's rulers
    if (!text.empty()) text += " / ";
    text += line;
  }
  if (text.size() > 1500) text = "..." + valid_utf8(text.substr(text.size() - 1500));
  return text.empty() ? "nothing on standard error" : text;
}

RunEnd stopped(const EndFacts& facts) {
  auto end = [&](RunState state, Reason reason) {
    return RunEnd{state, reason, facts.stop_detail, std::nullopt, nullptr};
  };
  switch (facts.stop) {
    case StopCause::kCancelled:
    case StopCause::kNotWanted:
      return end(RunState::kCancelled, Reason::kCancelledByUser);
    case StopCause::kTimedOut:
      return end(RunState::kTimeout, Reason::kTimedOut);
    case StopCause::kStalled:
      return end(RunState::kStalled, Reason::kNoProgress);
    case StopCause::kLeaseLost:
      return end(RunState::kLost, Reason::kAgentLost);
    case StopCause::kAgentStopping:
      return end(RunState::kFailed, Reason::kAgentRestarted);
    case StopCause::kDiskFull:
      return end(RunState::kFailed, Reason::kDiskFull);
    case StopCause::kAfterFailure:
    case StopCause::kNone:
      break;
  }
  return end(RunState::kFailed, Reason::kInternal);
}

RunEnd from_memory_event(const protocol::OutOfMemoryEvent& event) {
  RunEnd end{RunState::kOutOfMemory, Reason::kOutOfMemory, {}, std::nullopt, json::encode(event)};
  end.detail = fmt::format("out of memory: {} at batch {} in {}", event.model, event.batch_size,
                           event.precision);
  if (event.bytes_wanted) end.detail += fmt::format(", {} bytes wanted", *event.bytes_wanted);
  if (event.bytes_free) end.detail += fmt::format(", {} bytes free", *event.bytes_free);
  if (event.limited_by) end.detail += fmt::format(" ({})", *event.limited_by);
  return end;
}

RunEnd from_failure(const protocol::FailureEvent& event, const RankTracker& ranks) {
  const auto reason = json::enum_from<Reason>(event.reason);
  RunEnd end;
  end.reason = reason && *reason != Reason::kNone ? *reason : Reason::kInternal;
  if (end.reason == Reason::kOutOfMemory) end.state = RunState::kOutOfMemory;
  end.detail = name_rank(ranks, ranks.failed_rank()) + ": " +
               (event.detail.empty() ? event.reason : event.detail);
  return end;
}

RunEnd killed_for_memory(const nlohmann::json& spec, std::string detail) {
  protocol::OutOfMemoryEvent event;
  if (spec.is_object()) {
    event.model = spec.value("model", "");
    event.precision = spec.value("precision", "");
    if (const auto it = spec.find("batch_size"); it != spec.end() && it->is_number_integer())
      event.batch_size = it->get<std::int64_t>();
  }
  return {RunState::kOutOfMemory, Reason::kOutOfMemory,
          detail + "; the kernel's memory killer acted", std::nullopt, json::encode(event)};
}

std::vector<std::string> ranks_without_summary(const RankTracker& ranks) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < ranks.ranks().size(); ++i) {
    if (!ranks.ranks()[i].summary)
      names.push_back(name_rank(ranks, ranks.place().rank(static_cast<std::int64_t>(i))));
  }
  return names;
}

std::string without_summary(const RankTracker& ranks) {
  return fmt::format("{} ended without a summary", fmt::join(ranks_without_summary(ranks), ", "));
}

// A shell's way to say that a child ended on a signal, which mpirun passes on: 128 + signal.
std::int64_t signal_in_status(std::int64_t status) {
  return status > 128 && status < 128 + NSIG ? status - 128 : 0;
}

// mpirun ended with a status other than 0, or its ranks did, and nobody said why.
RunEnd crashed(const EndFacts& facts, const RankTracker& ranks, const nlohmann::json& spec) {
  RunEnd end{RunState::kFailed, Reason::kWorkerCrashed, {}, std::nullopt, nullptr};
  auto report = parse_abort_report(facts.last_stderr);
  if (!report) report = parse_srun_report(facts.last_stderr);
  if (report) report->rank = rank_of_launched(ranks.place().counts, report->rank);
  std::int64_t signal = facts.guard->signal;
  if (report && report->signal != 0) {
    signal = report->signal;
    end.detail = fmt::format("{} ended on {}", name_rank(ranks, report->rank),
                             describe({0, static_cast<int>(report->signal)}));
  } else if (report && report->exit_code) {
    end.detail = fmt::format("{} ended with exit status {} and did not say why",
                             name_rank(ranks, report->rank), *report->exit_code);
  } else if (signal != 0) {
    end.detail = facts.program + " ended on " + describe({0, static_cast<int>(signal)});
  } else if (const auto passed_on = signal_in_status(facts.guard->exit_code.value_or(0));
             passed_on != 0 && !ranks.all_summaries()) {
    // mpirun now and then loses the message that names the rank; only its status is left.
    signal = passed_on;
    const bool gang = !ranks.place().hosts.empty();  // then it may have been a rank elsewhere
    const auto names = gang ? std::vector<std::string>{"a rank"} : ranks_without_summary(ranks);
    end.detail = fmt::format("{}{} ended on {}", names.size() > 1 ? "one of " : "",
                             fmt::join(names, ", "), describe({0, static_cast<int>(signal)}));
    if (signal == SIGKILL && facts.memory_killer) return killed_for_memory(spec, end.detail);
    return end;
  } else {
    end.detail = fmt::format("{} ended with exit status {}", facts.program,
                             facts.guard->exit_code.value_or(-1));
  }
  if (signal == SIGKILL && facts.memory_killer) return killed_for_memory(spec, end.detail);
  // mpirun does not always say which rank it was: name those that did not come to their end.
  if (!report && !ranks.all_summaries()) end.detail += "; " + without_summary(ranks);
  if (!report || report->signal == 0) end.detail += "; " + last_words(facts);
  return end;
}

RunEnd missing(const RankTracker& ranks) {
  return {RunState::kFailed, Reason::kMissingRank, without_summary(ranks), std::nullopt, nullptr};
}

RunEnd decide(const EndFacts& facts, const RankTracker& ranks, const nlohmann::json& spec) {
  const bool own_end = facts.guard && facts.guard->cause == GuardCause::kExited;
  const bool clean = own_end && facts.guard->exit_code == 0;
  if (facts.guard && facts.guard->cause == GuardCause::kNotStarted)
    return {RunState::kFailed, Reason::kLaunchFailed, facts.guard->error, std::nullopt, nullptr};
  // It was over before our signal could reach it: then it is a result.
  if (clean && ranks.all_summaries() && facts.stop != StopCause::kDiskFull)
    return {RunState::kSucceeded, Reason::kNone, "", std::nullopt, nullptr};
  if (ranks.out_of_memory()) return from_memory_event(*ranks.out_of_memory());
  if (ranks.failure()) return from_failure(*ranks.failure(), ranks);
  if (facts.stop != StopCause::kNone) return stopped(facts);
  if (!facts.guard)
    return {RunState::kFailed, Reason::kWorkerCrashed,
            "the guard of the run was killed, so the agent ended its workers", std::nullopt,
            nullptr};
  if (facts.guard->cause != GuardCause::kExited)
    return {RunState::kFailed, Reason::kAgentRestarted, "the guard was told to end the run",
            std::nullopt, nullptr};
  if (!ranks.any_hello())
    return {RunState::kFailed, Reason::kLaunchFailed,
            fmt::format("no rank said hello; {} ended with {}: {}", facts.program,
                        describe({static_cast<int>(facts.guard->exit_code.value_or(0)),
                                  static_cast<int>(facts.guard->signal)}),
                        last_words(facts)),
            std::nullopt, nullptr};
  if (!clean) return crashed(facts, ranks, spec);
  return missing(ranks);
}

}  // namespace

RunEnd decide_end(const EndFacts& facts, const RankTracker& ranks, const nlohmann::json& spec) {
  RunEnd end = decide(facts, ranks, spec);
  if (facts.guard) end.exit_code = facts.guard->exit_code;
  if (end.detail.size() > 4000) end.detail = valid_utf8(end.detail.substr(0, 4000)) + "...";
  return end;
}

}  // namespace rackmark::agent
