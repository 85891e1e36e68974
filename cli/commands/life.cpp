#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
#include "cli/format.hpp"

namespace rackmark::cli {
namespace {

struct Options {
  std::int64_t id = 0;
  bool watch = false;
};

void cancel(Context& context, const Options& options) {
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

void add(CLI::App& app, Context& context, const char* name, const char* help,
         void (*act)(Context&, const Options&)) {
  auto* command = app.add_subcommand(name, help);
  auto options = std::make_shared<Options>();
  command->add_option("id", options->id, "Number of the job")->required();
  command->add_flag("--watch", options->watch, "Wait for the end");
  command->callback([&context, options, act] { act(context, *options); });
}

}  // namespace

void add_life(CLI::App& app, Context& context) {
  add(app, context, "cancel", "Cancel a job; its workers are ended", cancel);
  add(app, context, "rerun", "Submit an equal job", rerun);
}

}  // namespace rackmark::cli
