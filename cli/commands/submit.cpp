#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
#include "cli/format.hpp"
#include "cli/spec_input.hpp"

namespace rackmark::cli {
namespace {

struct SubmitOptions {
  std::string idempotency_key;
  bool watch = false, dry_run = false;
  SpecInput spec;
};

void print_dry_run(Context& context, const protocol::DryRun& dry) {
  if (context.json) return context.print_json(dry);
  context.out << dry.spec_resolved.dump(2) << '\n';
  std::string agents;
  for (const auto& name : dry.matching_agents) agents += (agents.empty() ? "" : ", ") + name;
  context.out << "agents that match: " << (agents.empty() ? "none" : printable(agents)) << '\n';
  if (dry.waiting) context.out << "would wait: " << printable(dry.waiting->detail) << '\n';
  context.out << "one run takes about: "
              << (dry.estimate_s ? duration_text(*dry.estimate_s) : "not known, no past run")
              << '\n';
}

void submit(Context& context, const SubmitOptions& options) {
  const auto spec = make_spec(context, options.spec);
  if (!spec) return;
  if (options.dry_run) {
    const auto dry = context.take(context.client().call_as<protocol::DryRun>(
        protocol::kSubmitJob, {}, {.validate = true}, *spec));
    if (dry) print_dry_run(context, *dry);
    return;
  }
  // With a key a submission whose answer was lost is safe to send again.
  const std::string key = options.idempotency_key.empty() ? random_key() : options.idempotency_key;
  const auto job = context.take(context.client().call(
      protocol::kSubmitJob, {}, {}, *spec, net::kDefaultTimeout, {{"Idempotency-Key", key}}));
  if (!job) return;
  if (!options.watch) {
    if (context.json) return context.print_json(*job);
    context.out << "job " << job->id << " submitted; follow it with: rackmark watch " << job->id
                << '\n';
    return;
  }
  context.err << "job " << job->id << " submitted; Ctrl-C leaves it running" << std::endl;
  if (const auto done = follow_job(context, job->id)) print_outcome(context, *done);
}

}  // namespace

void add_submit(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("submit", "Submit a job");
  auto options = std::make_shared<SubmitOptions>();
  add_spec_input(*command, options->spec);
  command->add_flag("--watch", options->watch, "Wait for the end; the exit status is the job's");
  command->add_flag("--dry-run", options->dry_run, "Check and resolve, store nothing")
      ->excludes("--watch");
  command->add_option("--idempotency-key", options->idempotency_key,
                      "The same key and spec within 24 h is the same job");
  command->callback([&context, options] { submit(context, *options); });
}

}  // namespace rackmark::cli
