#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

struct ProfileOptions {
  std::int64_t id = 0, rows = 40;
  bool run = false;
};

std::string digits(const std::optional<double>& value, int decimals) {
  if (!value) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, *value);
  return text;
}

void print_sums(Context& context, const protocol::ProfileEvent& profile) {
  context.out << "sum " << digits(profile.sum_ms, 1) << " ms, plain step in between "
              << digits(profile.step_ms, 1) << " ms, ratio " << digits(profile.sum_over_step, 3);
  if (profile.window_step_ms) {
    context.out << "; median step of the measured window " << digits(profile.window_step_ms, 1)
                << " ms";
  }
  context.out << '\n';
  if (profile.convolution_bound_ms && profile.convolution_bound_share) {
    context.out << "convolution-only bound " << digits(profile.convolution_bound_ms, 1)
                << " ms, share reached " << percent_text(*profile.convolution_bound_share) << '\n';
  }
  for (const auto& warning : profile.warnings)
    context.out << "warning: " << printable(warning) << '\n';
}

void print_profile(Context& context, std::int64_t run, std::int64_t most) {
  const auto view = context.take(context.client().call(protocol::kRunProfile, run));
  if (!view) return;
  if (context.json) return context.print_json(*view);
  auto rows = view->profile.rows;
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.ms > b.ms; });
  context.out << "run " << run << ": a separate pass after the measured window, median of "
              << view->profile.passes << " passes\n";
  Table table({{"layer"},
               {"pass"},
               {"ms", true},
               {"share", true},
               {"GFLOP/s", true},
               {"GB/s", true},
               {"implementation"}});
  for (const auto& row : rows) {
    if (most-- <= 0) break;
    table.add({printable(row.layer), words(row.pass), digits(row.ms, 3), percent_text(row.share),
               digits(row.gflops, 1), digits(row.gbps, 1), printable(row.implementation)});
  }
  table.print(context.out);
  print_sums(context, view->profile);
}

// The newest run of the job that has come to a result, else its newest.
std::optional<std::int64_t> run_of_job(Context& context, std::int64_t job_id) {
  const auto job = context.take(context.client().call(protocol::kShowJob, job_id));
  if (!job) return std::nullopt;
  std::optional<std::int64_t> newest;
  for (const auto& run : job->runs) {
    if (!newest || run.state == RunState::kSucceeded) newest = run.id;
  }
  if (!newest) {
    context.err << "job " << job_id << " has no run yet\n";
    context.status = 1;
  }
  return newest;
}

}  // namespace

void add_profile(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand(
      "profile", "Print the times of every layer of a job that was submitted with --profile true");
  auto options = std::make_shared<ProfileOptions>();
  command->add_option("id", options->id, "Number of the job")->required();
  command->add_flag("--run", options->run, "The number is a run's");
  command->add_option("--rows", options->rows, "Dearest rows to print")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->callback([&context, options] {
    const auto run = options->run ? std::optional(options->id) : run_of_job(context, options->id);
    if (run) print_profile(context, *run, options->rows);
  });
}

}  // namespace rackmark::cli
