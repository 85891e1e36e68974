#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

struct ShowOptions {
  std::int64_t id = 0;
  bool run = false;
};

std::string run_number(const protocol::RunView& run) {
  if (run.result) {
    const auto& step = run.result->step;
    measure::Spread spread{.kind = "steps"};
    if (step.standard_error_ms && step.mean_ms && *step.mean_ms > 0) {
      spread.value = *step.standard_error_ms / *step.mean_ms;
    }
    return headline_text({run.result->images_per_second, spread, 1});
  }
  if (!is_terminal(run.state)) return "not yet";
  return run.reason == Reason::kNone ? "none" : words(json::enum_name(run.reason));
}

void print_transitions(Context& context, const protocol::RunView& run) {
  for (const auto& step : run.transitions) {
    context.out << "  " << time_text(step.at) << "  " << words(step.state) << " by " << step.actor;
    if (!step.reason.empty() && step.reason != "none") context.out << ": " << words(step.reason);
    if (!step.detail.empty()) context.out << ", " << printable(step.detail);
    context.out << '\n';
  }
}

std::string agents_of(const protocol::RunView& run) {
  std::string text;
  for (const auto& host : run.hosts) text += (text.empty() ? "" : ", ") + host.agent;
  if (text.empty()) text = run.agent;
  return text.empty() ? "-" : text;
}

std::string ranks_of(const protocol::RunHostView& host) {
  const std::string first = std::to_string(host.first_rank);
  const std::string last = std::to_string(host.first_rank + host.ranks - 1);
  const std::string text = host.ranks == 1 ? "rank " + first : "ranks " + first + " to " + last;
  if (host.servers == 0) return text;
  return text + " and " + std::to_string(host.servers) +
         (host.servers == 1 ? " server" : " servers");
}

void print_hosts(Context& context, const protocol::RunView& run) {
  if (run.hosts.size() < 2) return;
  context.out << "  over " << run.network << ":\n";
  for (const auto& host : run.hosts) {
    context.out << "    " << host.agent << ": " << ranks_of(host);
    if (host.ended) context.out << ", " << words(json::enum_name(*host.ended));
    if (!host.detail.empty()) context.out << ": " << printable(host.detail);
    context.out << '\n';
  }
}

void show_run(Context& context, std::int64_t id) {
  const auto run = context.take(context.client().call(protocol::kShowRun, id));
  if (!run) return;
  if (context.json) return context.print_json(*run);
  context.out << "run " << run->id << " of job " << run->job_id << " (repetition "
              << run->repetition << ", attempt " << run->attempt
              << "): " << words(json::enum_name(run->state)) << ", " << run_number(*run) << '\n';
  if (!run->detail.empty()) context.out << "  " << printable(run->detail) << '\n';
  print_hosts(context, *run);
  print_transitions(context, *run);
}

void show_job(Context& context, std::int64_t id) {
  const auto job = context.take(context.client().call(protocol::kShowJob, id));
  if (!job) return;
  if (is_terminal(job->state)) {
    const int status = context.status;
    print_outcome(context, *job);
    context.status = status;  // showing a failed job is no failure
    if (context.json) return;
  } else if (context.json) {
    return context.print_json(*job);
  } else {
    context.out << "job " << job->id << ' ' << json::enum_name(job->state) << ": "
                << progress_text(*job, context.width) << '\n';
    if (job->waiting && job->waiting->estimate_s) {
      context.out << "  starts in about " << duration_text(*job->waiting->estimate_s) << '\n';
    }
  }
  if (!job->name.empty()) context.out << "  name: " << printable(job->name) << '\n';
  for (const auto& [key, value] : job->labels) {
    context.out << "  label: " << printable(key) << '=' << printable(value) << '\n';
  }
  if (job->runs.empty()) return;
  Table table({{"run", true},
               {"repetition", true},
               {"attempt", true},
               {"state"},
               {"agent"},
               {"result", true},
               {"ended"}});
  for (const auto& run : job->runs) {
    table.add({std::to_string(run.id), std::to_string(run.repetition), std::to_string(run.attempt),
               words(json::enum_name(run.state)), agents_of(run), run_number(run),
               run.ended_at ? time_text(*run.ended_at) : "-"});
  }
  table.print(context.out);
}

}  // namespace

void add_show(CLI::App& app, Context& context) {
  auto* show = app.add_subcommand("show", "Show a job with its runs, or one run");
  auto options = std::make_shared<ShowOptions>();
  show->add_option("id", options->id, "Number of the job")->required();
  show->add_flag("--run", options->run, "The number is a run's");
  show->callback([&context, options] {
    options->run ? show_run(context, options->id) : show_job(context, options->id);
  });

  auto* watch =
      app.add_subcommand("watch", "Follow a job to its end; the exit status is the job's");
  auto id = std::make_shared<std::int64_t>(0);
  watch->add_option("id", *id, "Number of the job")->required();
  watch->callback([&context, id] {
    if (const auto job = follow_job(context, *id)) print_outcome(context, *job);
  });
}

}  // namespace rackmark::cli
