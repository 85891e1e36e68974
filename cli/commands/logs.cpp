#include <CLI/CLI.hpp>
#include <thread>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"

namespace rackmark::cli {
namespace {

struct LogsOptions {
  std::int64_t id = 0;
  bool run = false, follow = false;
  std::optional<std::int64_t> tail;
};

void print_lines(Context& context, const protocol::LogPage& page) {
  for (const auto& line : page.lines) {
    if (context.json) {  // one object a line, so that a followed log is a stream
      context.out << json::encode(line).dump(-1, ' ', false,
                                             nlohmann::json::error_handler_t::replace)
                  << '\n';
    } else {
      context.out << '[' << (line.rank < 0 ? line.stream : std::to_string(line.rank)) << "] "
                  << printable(line.text) << '\n';
    }
  }
  context.out.flush();
}

// The job's newest run; waits for one when following.
std::optional<std::int64_t> newest_run(Context& context, const LogsOptions& options) {
  for (;;) {
    const auto job = context.take(context.client().call(protocol::kShowJob, options.id));
    if (!job) return std::nullopt;
    if (!job->runs.empty()) return job->runs.back().id;
    if (!options.follow || is_terminal(job->state)) {
      context.err << "job " << options.id << " has no run yet: " << printable(job_number_text(*job))
                  << '\n';
      return std::nullopt;
    }
    std::this_thread::sleep_for(context.poll);
  }
}

void print_logs(Context& context, const LogsOptions& options) {
  const auto run = options.run ? std::optional(options.id) : newest_run(context, options);
  if (!run) return;
  protocol::LogQuery query{.tail = options.tail};
  for (;;) {
    const auto page = context.take(context.client().call(protocol::kRunLogs, *run, query));
    if (!page) return;
    print_lines(context, *page);
    const bool more = static_cast<std::int64_t>(page->lines.size()) >= query.limit;
    query.after = std::max(query.after, page->last_number);
    if (query.tail) {
      if (!options.follow) return;
      query.tail.reset();
    } else if (!more && !options.follow) {
      return;
    }
    if (page->complete && !more) return;
    if (page->lines.empty()) std::this_thread::sleep_for(context.poll);
  }
}

}  // namespace

void add_logs(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("logs", "Print the log of a job's newest run");
  auto options = std::make_shared<LogsOptions>();
  command->add_option("id", options->id, "Number of the job")->required();
  command->add_flag("--run", options->run, "The number is a run's");
  command->add_flag("--follow", options->follow, "Go on until the run is over");
  command->add_option("--tail", options->tail, "Only the last lines")->type_name("LINES");
  command->callback([&context, options] { print_logs(context, *options); });
}

}  // namespace rackmark::cli
