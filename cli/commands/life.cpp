#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
#include "cli/format.hpp"
#include "common/protocol/groups.hpp"

namespace rackmark::cli {
namespace {

struct Options {
  std::int64_t id = 0;  // of a job
  std::optional<std::int64_t> group;
  bool watch = false;
};

void cancel_group(Context& context, std::int64_t id) {
  const auto group = context.take(context.client().call(protocol::kCancelGroup, id));
  if (!group) return;
  if (context.json) return context.print_json(*group);
  const auto live =
      std::count_if(group->members.begin(), group->members.end(),
                    [](const protocol::JobView& job) { return !is_terminal(job.state); });
  context.out << "group " << id << ": "
              << (live == 0 ? json::enum_name(group->state)
                            : "the workers of " + std::to_string(live) +
                                  (live == 1 ? " job" : " jobs") + " are being ended")
              << '\n';
}

void cancel(Context& context, const Options& options) {
  if (options.group) return cancel_group(context, *options.group);
  if (options.id == 0) throw BadUsage("cancel: the number of a job or --group GROUP is needed");
  const auto job = context.take(context.client().call(protocol::kCancelJob, options.id));
  if (!job) return;
  if (options.watch) {
    if (const auto done = follow_job(context, job->id)) {
      print_outcome(context, *done);
      // Having ended as asked is success here.
      if (done->state == JobState::kCancelled) context.status = 0;
    }
    return;
  }
  if (context.json) return context.print_json(*job);
  context.out << "job " << job->id << ": "
              << (is_terminal(job->state) ? json::enum_name(job->state)
                                          : std::string("its workers are being ended"))
              << '\n';
}

void rerun(Context& context, const Options& options) {
  const auto job = context.take(context.client().call(protocol::kRerunJob, options.id));
  if (!job) return;
  if (options.watch) {
    context.err << "job " << job->id << " submitted; Ctrl-C leaves it running" << std::endl;
    if (const auto done = follow_job(context, job->id)) print_outcome(context, *done);
    return;
  }
  if (context.json) return context.print_json(*job);
  context.out << "job " << job->id << " submitted, equal to job " << options.id
              << "; follow it with: rackmark watch " << job->id << '\n';
}

void add_cancel(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("cancel", "Cancel a job or a group; its workers are ended");
  auto options = std::make_shared<Options>();
  auto* id =
      command->add_option("id", options->id, "Number of the job")->check(CLI::PositiveNumber);
  auto* watch = command->add_flag("--watch", options->watch, "Wait for the end of the job");
  command->add_option("--group", options->group, "All jobs of this group instead")
      ->type_name("GROUP")
      ->excludes(id)
      ->excludes(watch);
  command->callback([&context, options] { cancel(context, *options); });
}

void add_rerun(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("rerun", "Submit an equal job");
  auto options = std::make_shared<Options>();
  command->add_option("id", options->id, "Number of the job")->required();
  command->add_flag("--watch", options->watch, "Wait for the end");
  command->callback([&context, options] { rerun(context, *options); });
}

}  // namespace

void add_life(CLI::App& app, Context& context) {
  add_cancel(app, context);
  add_rerun(app, context);
}

}  // namespace rackmark::cli
