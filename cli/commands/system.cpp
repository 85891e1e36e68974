#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

void print_version(Context& context) {
  const auto controller = context.take(context.client().call(protocol::kVersion));
  if (context.json) {
    nlohmann::json both = {{"rackmark", RACKMARK_VERSION}, {"controller", nullptr}};
    if (controller) both["controller"] = json::encode(*controller);
    return context.print_json(both);
  }
  context.out << "rackmark " RACKMARK_VERSION "\n";
  if (!controller) return;
  context.out << "controller " << printable(controller->version) << " at " << context.controller
              << " (schema " << controller->schema << ", up since "
              << time_text(controller->started_at) << ", " << printable(controller->controller_uuid)
              << ")\n";
}

void list_models(Context& context) {
  const auto models = context.take(context.client().call(protocol::kModels));
  if (!models) return;
  if (context.json) return context.print_json(*models);
  Table table({{"model"},
               {"title"},
               {"image size", true},
               {"classes", true},
               {"parameters", true},
               {"GFLOP/image training", true},
               {"runs now"}});
  for (const auto& m : models->items) {
    char gflop[32] = "-";
    if (m.training_gflop_per_image > 0) {
      std::snprintf(gflop, sizeof gflop, "%.3f", m.training_gflop_per_image);
    }
    table.add({m.name, m.title, std::to_string(m.image_size) + " px", count_text(m.classes),
               m.parameters > 0 ? count_text(m.parameters) : "-", gflop,
               m.available ? "yes" : "not in this version"});
  }
  table.print(context.out);
}

}  // namespace

void add_system(CLI::App& app, Context& context) {
  app.add_subcommand("version", "Versions of this program and of the controller")
      ->callback([&context] { print_version(context); });
  app.add_subcommand("models", "List the networks that a job may name")->callback([&context] {
    list_models(context);
  });
}

}  // namespace rackmark::cli
