#include "cli/program.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"

namespace rackmark::cli {
namespace {

int run_app(std::vector<std::string> arguments, Context& context) {
  CLI::App app{"Measures how fast this fleet trains and runs convolutional networks", "rackmark"};
  app.require_subcommand(1);
  app.fallthrough();  // --json and --controller may stand after the command
  app.set_version_flag("--version", "rackmark " RACKMARK_VERSION);
  app.add_option("--controller", context.controller, "Address of the controller")
      ->envname("RACKMARK_CONTROLLER")
      ->type_name("URL")
      ->capture_default_str();
  app.add_option("--token", context.token, "Token of a user")->envname("RACKMARK_TOKEN");
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
  add_system(app, context);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return app.exit(error, context.out, context.err) == 0 ? 0 : kExitBadUsage;
  }
  return context.status;
}

}  // namespace

int run(std::vector<std::string> arguments, Context& context) {
  try {
    return run_app(std::move(arguments), context);
  } catch (const BadUsage& error) {
    context.err << "rackmark: " << printable(error.what()) << '\n';
    return kExitBadUsage;
  } catch (const std::exception& error) {
    context.err << "rackmark: " << printable(error.what()) << '\n';
    return 1;
  }
}

}  // namespace rackmark::cli
