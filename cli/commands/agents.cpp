#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

std::string labels_text(const std::map<std::string, std::string>& labels) {
  std::string text;
  for (const auto& [key, value] : labels) text += (text.empty() ? "" : ",") + key + "=" + value;
  return text.empty() ? "-" : text;
}

void list_agents(Context& context) {
  const auto list = context.take(context.client().call(protocol::kListAgents));
  if (!list) return;
  if (context.json) return context.print_json(*list);
  if (list->items.empty()) {
    context.out << "no agent yet";
    if (!list->pack_command.empty()) {
      context.out << "; add a host with: " << printable(list->pack_command);
    }
    context.out << '\n';
    return;
  }
  Table table({{"agent", true},
               {"name"},
               {"state"},
               {"job", true},
               {"device class"},
               {"cores", true},
               {"memory", true},
               {"GPUs", true},
               {"last seen"},
               {"labels"}});
  for (const auto& agent : list->items) {
    table.add({std::to_string(agent.id), agent.name, agent.state,
               agent.job_id ? std::to_string(*agent.job_id) : "-", agent.device_class,
               std::to_string(agent.inventory.cpu.physical_cores),
               bytes_text(static_cast<double>(agent.inventory.memory_bytes)),
               std::to_string(agent.inventory.gpus.size()),
               agent.last_seen_s ? duration_text(*agent.last_seen_s) + " ago" : "never",
               labels_text(agent.labels)});
  }
  table.print(context.out);
}

void make_token(Context& context, std::int64_t valid_s) {
  const auto made =
      context.take(context.client().call(protocol::kCreateEnrolmentToken, {}, {}, {valid_s}));
  if (!made) return;
  if (context.json) return context.print_json(*made);
  // The token alone on standard output, so that a script can keep it in a file.
  context.out << made->token << std::endl;
  context.err << "good for one enrolment until " << time_text(made->expires_at)
              << "; it is not shown again\n";
}

}  // namespace

void add_agents(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("agents", "List agents");
  command->require_subcommand(0, 1);
  auto* token = command->add_subcommand("token", "Make a one-time enrolment token");
  auto valid_s = std::make_shared<std::int64_t>(protocol::EnrolmentTokenRequest{}.valid_s);
  token->add_option("--valid_s", *valid_s, "Seconds until it expires")->capture_default_str();
  token->callback([&context, valid_s] { make_token(context, *valid_s); });
  command->callback([&context, command] {
    if (command->get_subcommands().empty()) list_agents(context);
  });
}

}  // namespace rackmark::cli
