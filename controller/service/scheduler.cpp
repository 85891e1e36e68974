#include "controller/service/scheduler.hpp"

#include <algorithm>
#include <limits>

namespace rackmark::service {

namespace {

struct Slot {  // a host while the queue is laid out on it
  const Host* host = nullptr;
  std::optional<std::int64_t> last_job;  // what a further job would wait behind
  std::optional<double> free_in_s = 0.0;
  std::int64_t waiting = 0;  // jobs laid out on it so far
};

std::string words(const std::map<std::string, std::string>& selector) {
  std::string text;
  for (const auto& [key, value] : selector) text += (text.empty() ? "" : ",") + key + "=" + value;
  return text;
}

bool matches(const QueuedJob& job, const Host& host) {
  if (job.needs_gpu && host.gpus == 0) return false;
  if (!job.required_class.empty() && host.device_class != job.required_class) return false;
  return std::all_of(job.selector.begin(), job.selector.end(), [&host](const auto& want) {
    if (want.first == "name") return host.name == want.second;
    const auto label = host.labels.find(want.first);
    return label != host.labels.end() && label->second == want.second;
  });
}

std::string what_is_wanted(const QueuedJob& job) {
  std::string text = job.needs_gpu ? "agent with a GPU" : "agent";
  if (!job.required_class.empty()) text += " of device class " + job.required_class;
  if (!job.selector.empty()) text += " matches selector " + words(job.selector);
  return text;
}

// Fit and present hosts; when they are too few, `why` says what is missing.
std::vector<Slot*> candidates(const QueuedJob& job, std::vector<Slot>& slots, std::string& why) {
  std::vector<Slot*> fit;
  std::string refusal, absences;
  bool any = false;
  for (Slot& slot : slots) {
    if (!matches(job, *slot.host)) continue;
    any = true;
    const std::string reason = job.why_not ? job.why_not(*slot.host) : "";
    if (!reason.empty()) {
      if (refusal.empty()) refusal = slot.host->name + ": " + reason;
    } else if (!slot.host->absence.empty()) {
      absences +=
          (absences.empty() ? "" : ", ") + slot.host->name + " (" + slot.host->absence + ")";
    } else {
      fit.push_back(&slot);
    }
  }
  const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(1, job.agents_wanted));
  if (fit.size() >= wanted) return fit;
  if (slots.empty()) {
    why = "no agent is enrolled";
  } else if (!any) {
    why = "no " + what_is_wanted(job);
    if (job.selector.empty()) why += " is enrolled";
  } else if (!absences.empty()) {
    why = "waiting for agent " + absences;
  } else if (fit.empty()) {
    why = refusal;
  } else {
    why = "needs " + std::to_string(wanted) + " agents, " + std::to_string(fit.size()) +
          (fit.size() == 1 ? " matches" : " match");
  }
  return {};
}

void soonest_first(const QueuedJob& job, std::vector<Slot*>& fit) {
  constexpr double kUnknown = std::numeric_limits<double>::infinity();
  std::stable_sort(fit.begin(), fit.end(), [&](const Slot* a, const Slot* b) {
    const bool a_free = !a->last_job, b_free = !b->last_job;
    if (a_free != b_free) return a_free;
    const bool a_preferred = job.preferred_host == a->host->id;
    const bool b_preferred = job.preferred_host == b->host->id;
    if (a_free && a_preferred != b_preferred) return a_preferred;
    const double a_s = a->free_in_s.value_or(kUnknown), b_s = b->free_in_s.value_or(kUnknown);
    if (a_s != b_s) return a_s < b_s;
    return a->waiting < b->waiting;
  });
}

Wait wait_for(const QueuedJob& job, const std::vector<Slot*>& chosen) {
  Wait wait{job.id, "", std::nullopt, 0.0};
  for (const Slot* slot : chosen) {
    if (!slot->last_job) continue;
    if (wait.detail.empty()) {
      wait.blocking_job = slot->last_job;
      wait.detail =
          "behind job " + std::to_string(*slot->last_job) + " on agent " + slot->host->name;
    }
    if (!slot->free_in_s) wait.estimate_s.reset();
    if (wait.estimate_s) wait.estimate_s = std::max(*wait.estimate_s, *slot->free_in_s);
  }
  return wait;
}

void lay_out(const QueuedJob& job, const std::vector<Slot*>& chosen,
             std::optional<double> start_s) {
  for (Slot* slot : chosen) {
    slot->last_job = job.id;
    ++slot->waiting;
    slot->free_in_s.reset();
    if (start_s && job.estimate_s) slot->free_in_s = *start_s + *job.estimate_s;
  }
}

}  // namespace

Plan FifoScheduler::plan(const Queue& queue, bool only_placements) const {
  std::vector<Slot> slots;
  for (const Host& host : queue.hosts) {
    Slot slot{&host, host.busy_job};
    if (host.busy_job) slot.free_in_s = host.free_in_s;
    slots.push_back(slot);
  }
  const auto usable = [](const Slot& slot) { return !slot.last_job && slot.host->absence.empty(); };
  Plan plan;
  for (const QueuedJob& job : queue.jobs) {
    if (only_placements && std::none_of(slots.begin(), slots.end(), usable)) break;
    std::string why;
    auto chosen = candidates(job, slots, why);
    if (chosen.empty()) {
      plan.waits.push_back({job.id, why, std::nullopt, std::nullopt});
      continue;
    }
    soonest_first(job, chosen);
    chosen.resize(static_cast<std::size_t>(std::max<std::int64_t>(1, job.agents_wanted)));
    const bool now =
        std::all_of(chosen.begin(), chosen.end(), [](const Slot* slot) { return !slot->last_job; });
    if (now) {
      Placement& placement = plan.placements.emplace_back(Placement{job.id, {}});
      for (const Slot* slot : chosen) placement.hosts.push_back(slot->host->id);
      lay_out(job, chosen, 0.0);
    } else {
      plan.waits.push_back(wait_for(job, chosen));
      lay_out(job, chosen, plan.waits.back().estimate_s);
    }
  }
  return plan;
}

}  // namespace rackmark::service
