#include "common/protocol/groups.hpp"

#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/commands/query_options.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

std::string numbers(const std::vector<std::int64_t>& values) {
  std::string out;
  for (const std::int64_t value : values) out += (out.empty() ? "" : ",") + std::to_string(value);
  return out;
}

void list_groups(Context& context, const protocol::GroupQuery& query) {
  const auto page = context.take(context.client().call(protocol::kListGroups, {}, query));
  if (!page) return;
  if (context.json) return context.print_json(*page);
  if (page->items.empty()) {
    context.out
        << "no group matches; make one with: rackmark scale --agents 1,2 --model resnet50\n";
    return;
  }
  Table table({{"group", true}, {"kind"}, {"name"}, {"state"}, {"model"}, {"agents"}, {"created"}});
  for (const auto& group : page->items) {
    table.add({std::to_string(group.id), printable(group.kind),
               group.name.empty() ? "-" : printable(group.name), json::enum_name(group.state),
               printable(group.spec.value("model", "-")), numbers(group.agents),
               time_text(group.created_at)});
  }
  table.print(context.out);
  if (page->next_cursor) context.out << "more: --cursor " << printable(*page->next_cursor) << '\n';
}

}  // namespace

void add_groups(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("groups", "List groups of jobs, newest first");
  auto query = std::make_shared<protocol::GroupQuery>();
  add_query_options(*command, *query);
  command->callback([&context, query] { list_groups(context, *query); });
}

}  // namespace rackmark::cli
