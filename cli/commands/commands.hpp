// Each adds its command (or a few that are one idea) to `app`. `context` outlives `app`.
#pragma once

#include "cli/context.hpp"

namespace CLI {
class App;
}

namespace rackmark::cli {

void add_submit(CLI::App& app, Context& context);
void add_scale(CLI::App& app, Context& context);
void add_jobs(CLI::App& app, Context& context);
void add_groups(CLI::App& app, Context& context);
void add_show(CLI::App& app, Context& context);  // and watch
void add_logs(CLI::App& app, Context& context);
void add_profile(CLI::App& app, Context& context);
void add_life(CLI::App& app, Context& context);  // cancel, rerun
void add_agents(CLI::App& app, Context& context);
void add_results(CLI::App& app, Context& context);  // and export
void add_backup(CLI::App& app, Context& context);
void add_system(CLI::App& app, Context& context);  // version, models

}  // namespace rackmark::cli
