#include "cli/program.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"

namespace rackmark::cli {
namespace {

// CLI11 asks for a command before it looks at the words that it knew nothing to do with.
std::string usage_problem(const CLI::App& app, const CLI::ParseError& error) {
  const auto unknown = app.remaining();
  std::string problem = error.what();
  if (app.get_subcommands().empty() && !unknown.empty()) {
    problem =
        (unknown.front().starts_with('-') ? "there is no option '" : "there is no command '") +
        unknown.front() + "'";
  }
  return problem + " (see rackmark --help)";
}

int run_app(std::vector<std::string> arguments, Context& context) {
  CLI::App app{"Measures how fast this fleet trains and runs convolutional networks", "rackmark"};
  app.require_subcommand(1);
  app.fallthrough();  // --json and --controller may stand after the command
  app.set_version_flag("--version", "rackmark " RACKMARK_VERSION);
  app.add_option("--controller", context.controller, "Address of the controller")
      ->envname("RACKMARK_CONTROLLER")
      ->type_name("URL")
      ->capture_default_str();
  app.add_option("--token", context.token,
                 "Sent as a bearer token, for a proxy in front that asks for one; the controller "
                 "itself does not")
      ->envname("RACKMARK_TOKEN");
  app.add_flag("--json", context.json, "Print what the API answered");
  app.footer(
      "Exit status: 0 ok, 1 failed, 2 bad usage or refused, 3 out of memory, 4 cancelled,\n"
      "5 timeout or stalled, 6 lost, 7 the controller cannot be reached.");
  add_submit(app, context);
  add_scale(app, context);
  add_jobs(app, context);
  add_groups(app, context);
  add_show(app, context);
  add_logs(app, context);
  add_profile(app, context);
  add_life(app, context);
  add_agents(app, context);
  add_results(app, context);
  add_backup(app, context);
  add_system(app, context);
  const std::vector<std::string> words = arguments;
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& wanted) {
    return app.exit(wanted, context.out, context.err);
  } catch (const CLI::ParseError& error) {
    // It may have stopped before it came to it.
    context.json = context.json || std::find(words.begin(), words.end(), "--json") != words.end();
    throw BadUsage(usage_problem(app, error));
  }
  return context.status;
}

}  // namespace

int run(std::vector<std::string> arguments, Context& context) {
  try {
    return run_app(std::move(arguments), context);
  } catch (const BadUsage& error) {
    context.fail({ErrorCode::kInvalid, error.what(), {}});
  } catch (const std::exception& error) {
    context.fail({ErrorCode::kInternal, error.what(), {}});
  }
  return context.status;
}

}  // namespace rackmark::cli
