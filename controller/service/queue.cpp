#include "controller/service/queue.hpp"

#include <algorithm>
#include <map>
#include <memory>

#include "controller/store/runs.hpp"

namespace rackmark::service {

namespace {

std::string absence_of(const store::AgentRow& agent) {
  switch (agent.presence) {
    case store::Presence::kPresent:
      return "";
    case store::Presence::kNeverSeen:
      return "enrolled, not seen yet";
    case store::Presence::kLeft:
      return "shut down";
    case store::Presence::kLost:
      return "lost";
  }
  return "lost";
}

// Parsed at most once per job, and only when a host matches otherwise.
std::function<std::string(const Host&)> fits(std::string spec_text) {
  struct Lazy {
    std::string text;
    std::optional<Result<JobSpec>> spec;
  };
  auto lazy = std::make_shared<Lazy>(Lazy{std::move(spec_text), std::nullopt});
  return [lazy](const Host& host) -> std::string {
    if (!lazy->spec) lazy->spec = stored_spec(lazy->text);
    if (!*lazy->spec) return lazy->spec->error().message;
    const auto resolved = resolve_for_host(**lazy->spec, host.shape);
    return resolved ? "" : resolved.error().message;
  };
}

std::vector<std::int64_t> hosts_of(store::Database& db, const store::RunRow& run) {
  std::vector<std::int64_t> ids;
  for (const store::HostRow& host : store::list_hosts(db, run.id)) ids.push_back(host.agent_id);
  return ids;
}

void choose_by_past(store::Database& db, const store::JobRow& row, QueuedJob& job) {
  const auto runs = store::list_runs_of_job(db, row.id);
  const auto good = std::find_if(runs.rbegin(), runs.rend(), [](const store::RunRow& run) {
    return run.state == RunState::kSucceeded;
  });
  if (good != runs.rend()) job.preferred_hosts = hosts_of(db, *good);
  if (row.next_attempt.value_or(1) > 1 && !runs.empty()) {
    job.avoided_hosts = hosts_of(db, runs.back());
  }
}

void mark_busy(store::Database& db, std::vector<Host>& hosts, std::int64_t now_us, bool estimates) {
  for (const store::HostRow& taken : store::list_taken_hosts(db)) {
    const auto host = std::find_if(hosts.begin(), hosts.end(),
                                   [&](const Host& h) { return h.id == taken.agent_id; });
    const auto run = store::find_run(db, taken.run_id);
    if (host == hosts.end() || !run) continue;
    host->busy_job = run->job_id;
    if (!estimates) continue;
    if (const auto whole_s = store::past_duration_s(db, run->spec_key)) {
      const double ran_s = static_cast<double>(now_us - run->created_us) / 1e6;
      host->free_in_s = std::max(0.0, *whole_s - ran_s);
    }
  }
}

}  // namespace

HostShape shape_of(const protocol::Inventory& inventory) {
  return {std::max<std::int64_t>(1, inventory.cpu.numa_domains),
          std::max<std::int64_t>(1, inventory.cpu.physical_cores),
          static_cast<std::int64_t>(inventory.gpus.size())};
}

Result<JobSpec> stored_spec(const std::string& text) {
  return read_spec(nlohmann::json::parse(text, nullptr, false));
}

QueuedJob queued_job(store::Database& db, const store::JobRow& row, bool estimates) {
  QueuedJob job;
  job.id = row.id;
  job.agents_wanted = row.agents_wanted;
  job.needs_gpu = row.device == "gpu";
  job.selector = row.selector;
  if (row.next_repetition.value_or(1) > 1) job.required_class = row.device_class;
  if (row.next_repetition.value_or(1) > 1 || row.next_attempt.value_or(1) > 1) {
    choose_by_past(db, row, job);
  }
  if (estimates) job.estimate_s = store::past_duration_s(db, row.spec_key);
  job.why_not = fits(row.spec_resolved);
  return job;
}

std::vector<Host> load_hosts(store::Database& db, std::int64_t now_us, bool estimates) {
  std::vector<Host> hosts;
  for (const store::AgentRow& agent : store::list_agents(db)) {
    Host& host = hosts.emplace_back();
    host.id = agent.id;
    host.name = agent.name;
    host.device_class = agent.device_class;
    host.labels = agent.labels;
    host.shape = shape_of(agent.inventory);
    host.network = {agent.inventory.addresses, agent.inventory.network};
    const auto openmpi = agent.inventory.versions.find("openmpi");
    host.openmpi = openmpi == agent.inventory.versions.end() ? "unknown" : openmpi->second;
    host.absence = absence_of(agent);
  }
  mark_busy(db, hosts, now_us, estimates);
  return hosts;
}

std::vector<QueuedJob> load_jobs(store::Database& db, bool estimates) {
  std::vector<QueuedJob> jobs;
  for (const store::JobRow& row : store::list_waiting_jobs(db)) {
    jobs.push_back(queued_job(db, row, estimates));
  }
  return jobs;
}

Queue load_queue(store::Database& db, std::int64_t now_us, bool estimates) {
  return {load_jobs(db, estimates), load_hosts(db, now_us, estimates)};
}

std::optional<protocol::Waiting> why_waiting(store::Database& db, std::int64_t job_id,
                                             std::int64_t now_us) {
  Queue queue = load_queue(db, now_us, true);
  const auto own = std::find_if(queue.jobs.begin(), queue.jobs.end(),
                                [job_id](const QueuedJob& job) { return job.id == job_id; });
  if (own == queue.jobs.end()) return std::nullopt;
  queue.jobs.erase(own + 1, queue.jobs.end());
  for (Wait& wait : FifoScheduler().plan(queue, false).waits) {
    if (wait.job_id == job_id) {
      return protocol::Waiting{std::move(wait.detail), wait.blocking_job, wait.estimate_s};
    }
  }
  return protocol::Waiting{"about to start", std::nullopt, 0.0};
}

std::optional<protocol::Waiting> would_wait(store::Database& db, const store::JobRow& row,
                                            std::int64_t now_us, std::vector<std::string>& names,
                                            std::optional<std::int64_t>& fitting) {
  Queue queue = load_queue(db, now_us, true);
  QueuedJob job = queued_job(db, row, true);
  job.agents_wanted = 1;
  for (Host host : queue.hosts) {  // which hosts could run it if they were free and present
    host.busy_job.reset();
    host.absence.clear();
    if (FifoScheduler().plan({{job}, {host}}, false).placements.empty()) continue;
    names.push_back(host.name);
    if (!fitting) fitting = host.id;
  }
  job.agents_wanted = row.agents_wanted;
  queue.jobs.push_back(job);  // behind all others, whatever its priority: it is not queued yet
  for (Wait& wait : FifoScheduler().plan(queue, false).waits) {
    if (wait.job_id == row.id) {
      return protocol::Waiting{std::move(wait.detail), wait.blocking_job, wait.estimate_s};
    }
  }
  return std::nullopt;
}

}  // namespace rackmark::service
