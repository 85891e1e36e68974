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

// "2 sockets, 64 cores, 128 threads, 2 NUMA domains, avx512"
std::string cpu_text(const protocol::CpuInventory& cpu) {
  const auto several = [](std::int64_t n, const char* what) {
    return std::to_string(n) + ' ' + what + (n == 1 ? ", " : "s, ");
  };
  return several(cpu.sockets, "socket") + several(cpu.physical_cores, "core") +
         several(cpu.logical_cpus, "thread") + several(cpu.numa_domains, "NUMA domain") +
         words(cpu.isa);
}

std::string or_none(const std::vector<std::string>& texts) {
  return texts.empty() ? "none" : json::joined(texts);
}

void print_agent(std::ostream& out, const protocol::AgentView& agent) {
  const auto& inventory = agent.inventory;
  out << "agent " << agent.id << ' ' << printable(agent.name) << ": " << words(agent.state);
  if (agent.job_id) out << " with job " << *agent.job_id;
  out << (agent.last_seen_s ? ", last seen " + duration_text(*agent.last_seen_s) + " ago"
                            : std::string(", never seen"))
      << '\n';
  const auto line = [&out](const char* name, const std::string& text) {
    if (!text.empty()) out << "  " << name << ": " << printable(text) << '\n';
  };
  line("why", agent.state_detail);
  line("device class", agent.device_class);
  line("labels", labels_text(agent.labels));
  line("CPU", inventory.cpu.model_name + ": " + cpu_text(inventory.cpu));
  line("memory", bytes_text(static_cast<double>(inventory.memory_bytes)));
  for (const auto& gpu : inventory.gpus) {
    line("GPU", gpu.name + ", " + bytes_text(static_cast<double>(gpu.memory_bytes)) + ", driver " +
                    gpu.driver + ", " + gpu.uuid);
  }
  for (const auto& note : inventory.notes) line("does not count", note);
  line("system", inventory.os + ", " + inventory.kernel);
  line("addresses", or_none(inventory.addresses));
  line("data roots", or_none(inventory.data_roots));
  line("containment", words(inventory.containment));
  for (const auto& [name, version] : inventory.versions) line(words(name).c_str(), version);
  line("enrolled", time_text(agent.enrolled_at));
}

void show_agent(Context& context, std::int64_t id) {
  const auto agent = context.take(context.client().call(protocol::kShowAgent, id));
  if (!agent) return;
  if (context.json) return context.print_json(*agent);
  print_agent(context.out, *agent);
}

void retire_agent(Context& context, std::int64_t id) {
  const auto agent = context.take(context.client().call(protocol::kRetireAgent, id));
  if (!agent) return;
  if (context.json) return context.print_json(*agent);
  context.out << "agent " << agent->id << " is retired: its token is revoked, the name "
              << printable(agent->name) << " is free, its results stay\n";
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
  auto* command =
      app.add_subcommand("agents", "List agents; show or retire one, or make a token for one");
  command->require_subcommand(0, 1);
  auto* token = command->add_subcommand("token", "Make a one-time enrolment token");
  auto valid_s = std::make_shared<std::int64_t>(protocol::EnrolmentTokenRequest{}.valid_s);
  token->add_option("--valid_s", *valid_s, "Seconds until it expires")->capture_default_str();
  token->callback([&context, valid_s] { make_token(context, *valid_s); });
  const auto add_verb = [&](const char* name, const char* help, auto act) {
    auto* verb = command->add_subcommand(name, help);
    auto id = std::make_shared<std::int64_t>(0);
    verb->add_option("id", *id, "Number of the agent")->required();
    verb->callback([&context, id, act] { act(context, *id); });
  };
  add_verb("show", "Show what an agent is and does", show_agent);
  add_verb("retire", "Revoke an agent's token and free its name; its results stay", retire_agent);
  command->callback([&context, command] {
    if (command->get_subcommands().empty()) list_agents(context);
  });
}

}  // namespace rackmark::cli
