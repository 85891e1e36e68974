#include <CLI/CLI.hpp>

#include "cli/commands/commands.hpp"
#include "cli/format.hpp"

namespace rackmark::cli {
namespace {

constexpr std::chrono::minutes kPatience{30};  // it takes as long as the database is large

void make_backup(Context& context) {
  const auto made =
      context.take(context.client().call(protocol::kCreateBackup, {}, {}, {}, kPatience));
  if (!made) return;
  if (context.json) return context.print_json(*made);
  context.out << printable(made->file) << std::endl;
  context.err << bytes_text(static_cast<double>(made->bytes)) << " on the controller's host\n";
}

}  // namespace

void add_backup(CLI::App& app, Context& context) {
  app.add_subcommand("backup", "Copy the controller's database into a file beside it")
      ->callback([&context] { make_backup(context); });
}

}  // namespace rackmark::cli
