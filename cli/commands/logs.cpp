#include <CLI/CLI.hpp>
#include <thread>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
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

// Follows when asked to: a controller that goes away is then tried again.
class LogReader {
 public:
  LogReader(Context& context, const LogsOptions& options)
      : context_(context),
        options_(options),
        patience_(context, [&context](const std::string& line) { context.err << line << '\n'; }) {}

  void print() {
    const auto run = options_.run ? std::optional(options_.id) : newest_run();
    if (!run) return;
    protocol::LogQuery query{.tail = options_.tail};
    while (context_.out) {  // until whoever reads us has gone: main() looks at the stream, too
      const auto page =
          ask([&] { return context_.client().call(protocol::kRunLogs, *run, query); });
      if (!page) return;
      print_lines(context_, *page);
      const bool more = static_cast<std::int64_t>(page->lines.size()) >= query.limit;
      query.after = std::max(query.after, page->last_number);
      if (query.tail) {
        if (!options_.follow) return;
        query.tail.reset();
      } else if (!more && !options_.follow) {
        return;
      }
      if (page->complete && !more) return;
      if (page->lines.empty()) std::this_thread::sleep_for(context_.poll);
    }
  }

 private:
  template <class Call>
  auto ask(Call call) -> std::optional<typename decltype(call())::value_type> {
    for (;;) {
      auto answer = call();
      if (answer) {
        patience_.answered();
        return std::move(*answer);
      }
      if (options_.follow && patience_.asks_again(answer.error())) continue;
      context_.fail(answer.error());
      return std::nullopt;
    }
  }

  // Of the job; waits for one when following.
  std::optional<std::int64_t> newest_run() {
    for (;;) {
      const auto job = ask([&] { return context_.client().call(protocol::kShowJob, options_.id); });
      if (!job) return std::nullopt;
      if (!job->runs.empty()) return job->runs.back().id;
      if (!options_.follow || is_terminal(job->state)) {
        const std::string text = "job " + std::to_string(options_.id) +
                                 " has no run and so no log: " + job_number_text(*job);
        context_.fail({ErrorCode::kNotFound, text, {}});
        context_.status = 1;
        return std::nullopt;
      }
      std::this_thread::sleep_for(context_.poll);
    }
  }

  Context& context_;
  const LogsOptions& options_;
  Patience patience_;
};

}  // namespace

void add_logs(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("logs", "Print the log of a job's newest run");
  auto options = std::make_shared<LogsOptions>();
  command->add_option("id", options->id, "Number of the job")->required();
  command->add_flag("--run", options->run, "The number is a run's");
  command->add_flag("--follow", options->follow, "Go on until the run is over");
  command->add_option("--tail", options->tail, "Only the last lines")->type_name("LINES");
  command->callback([&context, options] { LogReader(context, *options).print(); });
}

}  // namespace rackmark::cli
