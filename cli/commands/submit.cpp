#include <CLI/CLI.hpp>
#include <fstream>
#include <iterator>
#include <random>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
#include "cli/format.hpp"
#include "cli/spec_options.hpp"
#include "common/domain/spec.hpp"

namespace rackmark::cli {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kMaxSpecBytes = 1 << 20;

struct SubmitOptions {
  std::string file, tf, idempotency_key;
  bool watch = false, dry_run = false;
  SpecOptions spec;
};

Json read_spec(Context& context, const std::string& file) {
  std::ifstream stream;
  if (file != "-") {
    stream.open(file, std::ios::binary);
    if (!stream) throw BadUsage(file + ": cannot be read");
  }
  std::istream& in = file == "-" ? context.in : stream;
  std::string text(kMaxSpecBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxSpecBytes) throw BadUsage(file + ": more than 1 MiB is no job spec");
  auto parsed = json::parse(text);
  if (!parsed) throw BadUsage(file + ": " + parsed.error().message);
  if (!parsed->is_object()) throw BadUsage(file + ": a job spec is a JSON object");
  return std::move(*parsed);
}

// Whether an agent has a GPU decides the device of a tf line that names none.
std::optional<bool> any_gpu(Context& context) {
  const auto agents = context.take(context.client().call(protocol::kListAgents));
  if (!agents) return std::nullopt;
  return std::any_of(agents->items.begin(), agents->items.end(),
                     [](const auto& agent) { return !agent.inventory.gpus.empty(); });
}

std::optional<Json> make_spec(Context& context, const SubmitOptions& options) {
  Json spec = Json::object();
  if (!options.file.empty()) spec = read_spec(context, options.file);
  if (!options.tf.empty()) {
    // Read once without asking, so that a wrong flag is told also without a controller.
    auto translated = spec_from_tf_flags(options.tf, false);
    if (translated && options.tf.find("-device") == std::string::npos) {
      const auto gpu = any_gpu(context);
      if (!gpu) return std::nullopt;
      translated = spec_from_tf_flags(options.tf, *gpu);
    }
    if (!translated) {
      context.fail(translated.error());
      return std::nullopt;
    }
    spec = std::move(*translated);
  }
  apply_spec_options(options.spec, spec);
  return spec;
}

std::string random_key() {
  std::random_device device;
  std::string key;
  for (int i = 0; i < 32; ++i) key += "0123456789abcdef"[device() & 15];
  return key;
}

void print_dry_run(Context& context, const protocol::DryRun& dry) {
  if (context.json) return context.print_json(dry);
  context.out << dry.spec_resolved.dump(2) << '\n';
  std::string agents;
  for (const auto& name : dry.matching_agents) agents += (agents.empty() ? "" : ", ") + name;
  context.out << "agents that match: " << (agents.empty() ? "none" : printable(agents)) << '\n';
  if (dry.waiting) context.out << "would wait: " << printable(dry.waiting->detail) << '\n';
  context.out << "one run takes about: "
              << (dry.estimate_s ? duration_text(*dry.estimate_s) : "not known, no past run")
              << '\n';
}

void submit(Context& context, const SubmitOptions& options) {
  const auto spec = make_spec(context, options);
  if (!spec) return;
  if (options.dry_run) {
    const auto dry = context.take(context.client().call_as<protocol::DryRun>(
        protocol::kSubmitJob, {}, {.validate = true}, *spec));
    if (dry) print_dry_run(context, *dry);
    return;
  }
  // With a key a submission whose answer was lost is safe to send again.
  const std::string key = options.idempotency_key.empty() ? random_key() : options.idempotency_key;
  const auto job = context.take(context.client().call(
      protocol::kSubmitJob, {}, {}, *spec, net::kDefaultTimeout, {{"Idempotency-Key", key}}));
  if (!job) return;
  if (!options.watch) {
    if (context.json) return context.print_json(*job);
    context.out << "job " << job->id << " submitted; follow it with: rackmark watch " << job->id
                << '\n';
    return;
  }
  context.err << "job " << job->id << " submitted; Ctrl-C leaves it running" << std::endl;
  if (const auto done = follow_job(context, job->id)) print_outcome(context, *done);
}

}  // namespace

void add_submit(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("submit", "Submit a job");
  auto options = std::make_shared<SubmitOptions>();
  auto* file =
      command->add_option("-f,--file", options->file, "Job spec as JSON; - reads standard input")
          ->type_name("FILE");
  command->add_option("--tf", options->tf, "tf_cnn_benchmarks' flag line")
      ->type_name("FLAGS")
      ->excludes(file);
  command->add_flag("--watch", options->watch, "Wait for the end; the exit status is the job's");
  command->add_flag("--dry-run", options->dry_run, "Check and resolve, store nothing")
      ->excludes("--watch");
  command->add_option("--idempotency-key", options->idempotency_key,
                      "The same key and spec within 24 h is the same job");
  add_spec_options(*command, options->spec);
  command->callback([&context, options] { submit(context, *options); });
}

}  // namespace rackmark::cli
