#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/commands/query_options.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

void list_jobs(Context& context, const protocol::JobQuery& query) {
  const auto page = context.take(context.client().call(protocol::kListJobs, {}, query));
  if (!page) return;
  if (context.json) return context.print_json(*page);
  if (page->items.empty()) {
    context.out << "no job matches; submit one with: rackmark submit --model resnet50 --watch\n";
    return;
  }
  Table table({{"job", true},
               {"name"},
               {"state"},
               {"what"},
               {"result", true},
               {"validity"},
               {"agents"},
               {"created"}});
  for (const auto& job : page->items) {
    std::string agents;
    for (const auto& name : job.agents) agents += (agents.empty() ? "" : ",") + name;
    table.add({std::to_string(job.id), job.name.empty() ? "-" : job.name,
               json::enum_name(job.state),
               job.model + " " + job.mode + " " + job.precision + " batch " +
                   (job.batch_size == 0 ? std::string("max") : std::to_string(job.batch_size)),
               job_number_text(job), job.validity ? json::enum_name(job.validity->verdict) : "-",
               agents.empty() ? "-" : agents, time_text(job.created_at)});
  }
  table.print(context.out);
  if (page->next_cursor) context.out << "more: --cursor " << printable(*page->next_cursor) << '\n';
}

}  // namespace

void add_jobs(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("jobs", "List jobs, newest first");
  auto query = std::make_shared<protocol::JobQuery>();
  add_query_options(*command, *query);
  command->callback([&context, query] { list_jobs(context, *query); });
}

}  // namespace rackmark::cli
