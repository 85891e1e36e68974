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
  if (job.needs_gpu && host.shape.gpus == 0) return false;
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
    for (const Slot* slot : fit) why += (slot == fit.front() ? ": " : ", ") + slot->host->name;
  }
  return {};
}

// The less, the sooner it is taken of hosts that are free.
int liking(const QueuedJob& job, const Host& host) {
  const auto is_in = [&host](const std::vector<std::int64_t>& ids) {
    return std::find(ids.begin(), ids.end(), host.id) != ids.end();
  };
  if (is_in(job.avoided_hosts)) return 1;
  return is_in(job.preferred_hosts) ? -1 : 0;
}

void soonest_first(const QueuedJob& job, std::vector<Slot*>& fit) {
  constexpr double kUnknown = std::numeric_limits<double>::infinity();
  std::stable_sort(fit.begin(), fit.end(), [&](const Slot* a, const Slot* b) {
    const bool a_free = !a->last_job, b_free = !b->last_job;
    if (a_free != b_free) return a_free;
    const int a_liking = liking(job, *a->host), b_liking = liking(job, *b->host);
    if (a_free && a_liking != b_liking) return a_liking < b_liking;
    const double a_s = a->free_in_s.value_or(kUnknown), b_s = b->free_in_s.value_or(kUnknown);
    if (a_s != b_s) return a_s < b_s;
    return a->waiting < b->waiting;
  });
}

using Slots = std::vector<Slot*>;

std::string names(const Slots& slots) {
  std::string text;
  for (const Slot* slot : slots) text += (text.empty() ? "" : ", ") + slot->host->name;
  return text;
}

std::string words(const std::vector<std::string>& networks) {
  std::string text;
  for (const std::string& network : networks) text += (text.empty() ? "" : ", ") + network;
  return text.empty() ? "none" : text;
}

// When all of these are free; unknown counts as never.
double ready_s(const Slots& slots) {
  double worst = 0;
  for (const Slot* slot : slots) {
    const double unknown = std::numeric_limits<double>::infinity();
    if (slot->last_job) worst = std::max(worst, slot->free_in_s.value_or(unknown));
  }
  return worst;
}

std::vector<std::string> shared_networks(const Slots& slots) {
  std::vector<Networked> hosts;
  for (const Slot* slot : slots) hosts.push_back(slot->host->network);
  return common_networks(hosts);
}

struct Gang {
  Slots slots;  // head first
  std::string network;
};

// Why these, which would be enough and are alike, cannot work together.
std::string network_problem(const Slots& slots) {
  const auto shared = shared_networks(slots);
  if (shared.size() > 1) {
    return "agents " + names(slots) + " share several networks (" + words(shared) +
           "): start them with --network to say which";
  }
  std::string text = "agents " + names(slots) + " share no network (";
  for (const Slot* slot : slots) {
    if (slot != slots.front()) text += "; ";
    text += slot->host->name + ": " + words(networks_of(slot->host->network));
  }
  return text + ")";
}

// Of hosts that are alike, soonest first: the first `wanted` that have a network to themselves.
std::optional<Gang> gang_of_alike(const Slots& slots, std::size_t wanted) {
  std::optional<Gang> best;
  std::vector<std::string> tried;
  for (const Slot* some : slots) {
    for (const std::string& network : networks_of(some->host->network)) {
      if (std::find(tried.begin(), tried.end(), network) != tried.end()) continue;
      tried.push_back(network);
      Gang gang{{}, network};
      for (Slot* slot : slots) {
        const auto own = networks_of(slot->host->network);
        const bool there = std::find(own.begin(), own.end(), network) != own.end();
        if (there && gang.slots.size() < wanted) gang.slots.push_back(slot);
      }
      if (gang.slots.size() < wanted) continue;
      if (shared_networks(gang.slots) != std::vector<std::string>{network}) continue;
      if (!best || ready_s(gang.slots) < ready_s(best->slots)) best = std::move(gang);
    }
  }
  return best;
}

using Groups = std::vector<std::pair<std::string, Slots>>;

// By what all hosts of one gang must have alike; the order within is kept.
Groups grouped(const Slots& slots, std::string Host::*by) {
  Groups groups;
  for (Slot* slot : slots) {
    const std::string& value = slot->host->*by;
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&value](const auto& entry) { return entry.first == value; });
    if (found == groups.end()) found = groups.insert(groups.end(), {value, {}});
    found->second.push_back(slot);
  }
  return groups;
}

std::string too_few_alike(std::size_t wanted, const char* what, const Groups& groups) {
  std::string text = "needs " + std::to_string(wanted) + " agents of one " + what + " (";
  for (const auto& group : groups) {
    if (&group != &groups.front()) text += "; ";
    text += group.first + ": " + names(group.second);
  }
  return text + ")";
}

// `fit` is soonest first and has enough hosts; nullopt with `why` when no class has.
std::optional<Gang> choose_gang(const Slots& fit, std::size_t wanted, std::string& why) {
  const auto enough = [wanted](const auto& group) { return group.second.size() >= wanted; };
  std::optional<Gang> best;
  std::string problem;
  const Groups classes = grouped(fit, &Host::device_class);
  for (const auto& of_class : classes) {
    if (!enough(of_class)) continue;
    const Groups versions = grouped(of_class.second, &Host::openmpi);
    if (std::none_of(versions.begin(), versions.end(), enough) && problem.empty())
      problem = too_few_alike(wanted, "version of Open MPI", versions);
    for (const auto& of_version : versions) {
      if (!enough(of_version)) continue;
      auto gang = gang_of_alike(of_version.second, wanted);
      if (!gang && problem.empty()) problem = network_problem(of_version.second);
      if (gang && (!best || ready_s(gang->slots) < ready_s(best->slots))) best = std::move(gang);
    }
  }
  if (best) return best;
  why = problem.empty() ? too_few_alike(wanted, "device class", classes) : problem;
  return std::nullopt;
}

Wait wait_for(const QueuedJob& job, const std::vector<Slot*>& chosen) {
  Wait wait{job.id, "", std::nullopt, 0.0};
  for (const Slot* slot : chosen) {
    if (!slot->last_job) continue;
    if (!wait.blocking_job) wait.blocking_job = slot->last_job;
    wait.detail += (wait.detail.empty() ? "behind job " : ", job ") +
                   std::to_string(*slot->last_job) + " on agent " + slot->host->name;
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
    const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(1, job.agents_wanted));
    std::string network;
    if (wanted == 1) {
      chosen.resize(1);
    } else if (auto gang = choose_gang(chosen, wanted, why)) {
      chosen = std::move(gang->slots);
      network = std::move(gang->network);
    } else {
      plan.waits.push_back({job.id, why, std::nullopt, std::nullopt});
      continue;
    }
    const bool now =
        std::all_of(chosen.begin(), chosen.end(), [](const Slot* slot) { return !slot->last_job; });
    if (now) {
      Placement& placement = plan.placements.emplace_back(Placement{job.id, {}, network});
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
