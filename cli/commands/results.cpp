#include <CLI/CLI.hpp>
#include <fstream>

#include "cli/commands/commands.hpp"
#include "cli/commands/query_options.hpp"
#include "cli/export_columns.hpp"
#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

struct ExportOptions {
  protocol::ResultQuery query;
  std::string format = "csv", output = "-";
};

void list_results(Context& context, const protocol::ResultQuery& query) {
  const auto page = context.take(context.client().call(protocol::kListResults, {}, query));
  if (!page) return;
  if (context.json) return context.print_json(*page);
  if (page->items.empty()) {
    context.out << "no result matches; make one with: rackmark submit --model resnet50 --watch\n";
    return;
  }
  Table table({{"result", true},
               {"job", true},
               {"what"},
               {"img/s", true},
               {"spread", true},
               {"step median", true},
               {"validity"},
               {"agent"},
               {"device class"},
               {"created"}});
  for (const auto& r : page->items) {
    std::string spread = "not available";
    if (r.step.standard_error_ms && r.step.mean_ms && *r.step.mean_ms > 0) {
      spread = "±" + percent_text(*r.step.standard_error_ms / *r.step.mean_ms) + " within the run";
    }
    table.add({std::to_string(r.id), std::to_string(r.job_id),
               r.model + " " + r.mode + " " + r.precision + " batch " +
                   std::to_string(r.batch_size) + " x" + std::to_string(r.ranks),
               rate_text(r.images_per_second), spread, milliseconds_text(r.step.median_ms),
               json::enum_name(r.validity.verdict), r.agent, r.device_class,
               time_text(r.created_at)});
  }
  table.print(context.out);
  if (page->next_cursor) context.out << "more: --cursor " << printable(*page->next_cursor) << '\n';
}

void write_result(std::ostream& out, const std::string& format, const protocol::ResultView& r) {
  if (format == "csv") {
    out << csv_row(export_row(r));
  } else {
    out << json::encode(r).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  }
}

// Page after page; what was written stays when a later page fails, and the status says so.
void export_results(Context& context, ExportOptions options) {
  std::ofstream file;
  bool header = options.format == "csv";
  std::int64_t written = 0;
  options.query.limit = std::clamp<std::int64_t>(options.query.limit, 1, 1000);
  for (;;) {
    auto page = context.take(context.client().call(protocol::kListResults, {}, options.query));
    if (!page) return;
    // Opened late, so that a refused filter does not empty a file.
    if (options.output != "-" && !file.is_open()) {
      file.open(options.output, std::ios::binary | std::ios::trunc);
      if (!file) throw BadUsage(options.output + ": cannot be written");
    }
    std::ostream& out = options.output == "-" ? context.out : file;
    if (header) out << csv_row(export_header());
    header = false;
    for (const auto& result : page->items) write_result(out, options.format, result);
    written += static_cast<std::int64_t>(page->items.size());
    out.flush();
    if (!out) throw std::runtime_error(options.output + ": writing failed (disk full?)");
    if (!page->next_cursor) break;
    options.query.cursor = std::move(page->next_cursor);
  }
  context.err << written << (written == 1 ? " result" : " results") << " exported\n";
}

}  // namespace

void add_results(CLI::App& app, Context& context) {
  auto* results = app.add_subcommand("results", "List results, newest first");
  auto query = std::make_shared<protocol::ResultQuery>();
  add_query_options(*results, *query);
  results->callback([&context, query] { list_results(context, *query); });

  auto* exporting = app.add_subcommand("export", "Write all matching results as csv or jsonl");
  auto options = std::make_shared<ExportOptions>();
  options->query.limit = 1000;  // of a page; all pages are written
  add_query_options(*exporting, options->query);
  exporting->add_option("--format", options->format, "csv has units in its column names")
      ->check(CLI::IsMember({"csv", "jsonl"}))
      ->capture_default_str();
  exporting->add_option("-o,--output", options->output, "File; - is standard output")
      ->capture_default_str();
  exporting->callback([&context, options] { export_results(context, *options); });
}

}  // namespace rackmark::cli
