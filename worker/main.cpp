// rackmark-worker: the training engine of one rank; also useful alone, with no service around it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/domain/ranks.hpp"
#include "common/domain/spec.hpp"
#include "common/json/described.hpp"
#include "worker/backend/backend.hpp"
#include "worker/failure.hpp"
#include "worker/infer/session.hpp"
#include "worker/input/pack.hpp"
#include "worker/input/packed_format.hpp"
#include "worker/roofline/collectives.hpp"
#include "worker/roofline/roofline.hpp"
#include "worker/train/engine_revision.hpp"
#include "worker/train/run.hpp"
#include "worker/train/server_session.hpp"
#include "worker/verify/verify.hpp"

namespace {

using namespace rackmark;

int print_models(bool as_json) {
  if (as_json) {
    nlohmann::json list = nlohmann::json::array();
    for (const ModelFacts& model : model_facts()) list.push_back(json::encode(model));
    std::printf("%s\n", list.dump(2).c_str());
    return worker::kExitOk;
  }
  std::printf("%-20s %6s %8s %6s %12s %11s %13s %14s  %s\n", "model", "image", "classes", "batch",
              "parameters", "weights MB", "forward GFLOP", "training GFLOP", "");
  for (const ModelFacts& model : model_facts()) {
    std::printf("%-20s %6lld %8lld %6lld %12lld %11.1f %13.3f %14.3f  %s\n", model.name.c_str(),
                static_cast<long long>(model.image_size), static_cast<long long>(model.classes),
                static_cast<long long>(model.default_batch),
                static_cast<long long>(model.parameters),
                static_cast<double>(model.parameters) * 4e-6, model.forward_gflop_per_image,
                model.training_gflop_per_image, model.title.c_str());
  }
  std::printf(
      "GFLOP: 1e9 floating-point operations an image, a multiply-add counts 2; "
      "weights in fp32, 1 MB = 1e6 bytes\n");
  return worker::kExitOk;
}

// "rackmark-worker 0.1.0, engine 0123456789ab, onednn 2.6.3": the agent's inventory reads it.
std::string version_line() {
  std::string line =
      std::string("rackmark-worker ") + RACKMARK_VERSION + ", engine " + worker::engine_revision();
  for (const auto& name : worker::backend_names()) {
    try {
      for (const auto& [library, version] : worker::load_backend(name)->libraries()) {
        line += ", " + library + " " + version;
      }
    } catch (const std::exception& error) {
      line += ", " + name + " unusable";
    }
  }
  return line;
}

std::unique_ptr<worker::RankSession> make_session(worker::SessionOptions options,
                                                  worker::Events& events, const Clock& clock,
                                                  const std::atomic<bool>& stop) {
  if (options.spec.mode == Mode::kInference) {
    return std::make_unique<worker::InferenceSession>(std::move(options), events, clock, stop);
  }
  const auto rank = rank_of_launched(rank_counts(options.spec), worker::launched_ranks().rank);
  if (rank >= worker_count(options.spec)) {
    return std::make_unique<worker::ServerSession>(std::move(options), events, clock, stop);
  }
  return std::make_unique<worker::Session>(std::move(options), events, clock, stop);
}

// What one subcommand reads from the command line, and what it then does.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> work;
};

Command add_run(CLI::App& app) {
  auto options = std::make_shared<worker::RunOptions>();
  auto* run = app.add_subcommand("run",
                                 "Train as a job spec says; events go to standard output "
                                 "or to the socket named by RACKMARK_EVENTS");
  // No option group: CLI11 2.4 reads no environment for a group that the command line leaves out.
  auto* spec = run->add_option("--spec", options->spec_path, "File with a job spec (JSON)")
                   ->envname("RACKMARK_SPEC");
  run->add_option("--tf", options->tf_flags, "Flag line of tf_cnn_benchmarks instead of a spec")
      ->excludes(spec);
  run->add_option_function<std::string>(
         "--output", [options](const std::string& format) { options->tf_output = format == "tf"; },
         "json: event lines; tf: tf_cnn_benchmarks' lines")
      ->check(CLI::IsMember({"json", "tf"}))
      ->default_str("json");
  run->add_flag("--profile", options->profile,
                "After the measured window time every layer in a separate pass; the table goes "
                "to standard error");
  run->add_option("--backend", options->backend, "Default: the best one of this host");
  run->add_option("--micro-batches", options->micro_batches,
                  "Test option: one rank plays this many ranks")
      ->check(CLI::Range(1, 64));
  run->add_option("--dump-parameters", options->dump_path,
                  "Test option: write the parameters here when done (float32), names to FILE.json");
  run->final_callback([options] {
    if (options->spec_path.empty() && options->tf_flags.empty())
      throw CLI::RequiredError("--spec or --tf");
  });
  return {run, [options] { return worker::run_worker(*options, make_session); }};
}

Command add_verify(CLI::App& app) {
  auto options = std::make_shared<worker::VerifyOptions>();
  auto* verify = app.add_subcommand("verify", "Compare a backend with reference results");
  verify->add_option("--reference", options->references, "Reference file; may be repeated")
      ->required();
  verify->add_option("--backend", options->backend, "Default: the best one of this host");
  verify->add_option("--precision", options->precision, "What the backend computes in");
  verify->add_option("--fusion", options->fusion,
                     "Which layers one kernel covers, as in a job; default: the backend's best");
  verify->add_option("--threads", options->threads, "Default: all CPUs of this process");
  verify->add_option("--inject", options->inject,
                     "Self-test, a deliberate fault: negate-gradient=PARAMETER or "
                     "negate-residual-gradient");
  verify->add_flag("--json", options->json, "One JSON document instead of tables");
  return {verify, [options] { return worker::run_verify(*options); }};
}

// `exchange`: the flag that makes the rest of them mean something.
void add_collectives(CLI::App& ceilings, CLI::Option* exchange,
                     worker::CollectivesOptions& options) {
  ceilings.add_option("--algorithm", options.algorithm, "Of the all-reduce")
      ->needs(exchange)
      ->check(CLI::IsMember({"auto", "ring", "recursive_doubling", "rabenseifner"}))
      ->capture_default_str();
  ceilings.add_option("--operations", options.operations, "Only these, with commas between")
      ->needs(exchange)
      ->delimiter(',')
      ->check(CLI::IsMember({"all_reduce", "broadcast", "push_pull"}))
      ->capture_default_str();
  ceilings.add_option("--min-bytes", options.min_bytes, "Smallest message")
      ->needs(exchange)
      ->check(CLI::Range(64, 1 << 30))
      ->capture_default_str();
  ceilings.add_option("--max-bytes", options.max_bytes, "Largest message")
      ->needs(exchange)
      ->check(CLI::Range(64, 1 << 30))
      ->capture_default_str();
}

struct CeilingOptions {
  worker::RooflineOptions device;
  worker::CollectivesOptions exchange;
  bool measures_exchange = false;
};

int run_ceilings(CeilingOptions options) {
  if (!options.measures_exchange) return worker::run_roofline(options.device);
  options.exchange.json = options.device.json;
  return worker::run_collectives(options.exchange);
}

Command add_roofline(CLI::App& app) {
  auto options = std::make_shared<CeilingOptions>();
  auto* ceilings = app.add_subcommand("roofline",
                                      "What this device can do at most: matrix products, "
                                      "convolutions, memory; with --model the time that the "
                                      "convolutions of a model need alone; with --collectives "
                                      "the exchange between ranks");
  worker::RooflineOptions& device = options->device;
  ceilings->add_option("--threads", device.threads, "Default: the physical cores of this process")
      ->check(CLI::Range(1, 4096));
  ceilings->add_option("--backend", device.backend, "Default: the best one of this host");
  ceilings->add_flag("--json", device.json, "One JSON document instead of lines");
  auto* model = ceilings->add_option("--model", device.model, "Convolution-only bound of it");
  ceilings->add_option("--batch", device.batch, "Default: the model's")
      ->needs(model)
      ->check(CLI::Range(1, 65536));
  ceilings->add_option("--image-size", device.image_size, "Default: the model's")
      ->needs(model)
      ->check(CLI::Range(8, 1024));
  ceilings->add_option("--mode", device.mode, "inference: forward passes only")
      ->needs(model)
      ->check(CLI::IsMember({"training", "inference"}))
      ->capture_default_str();
  ceilings->add_option("--precision", device.precision, "Of the bound")
      ->needs(model)
      ->capture_default_str();
  auto* exchange = ceilings->add_flag(
      "--collectives", options->measures_exchange,
      "Under mpirun instead: all-reduce, broadcast and push-pull over message sizes");
  exchange->excludes(model);
  add_collectives(*ceilings, exchange, options->exchange);
  return {ceilings, [options] { return run_ceilings(*options); }};
}

Command add_pack(CLI::App& app) {
  auto options = std::make_shared<worker::PackOptions>();
  auto* pack = app.add_subcommand("pack",
                                  "Decode a tree of JPEG pictures once, into the shards that "
                                  "input.kind packed reads");
  pack->add_option("--pictures", options->pictures, "Folder with one folder of JPEG files a class");
  pack->add_option("--out", options->out, "Folder to write to: new or empty");
  pack->add_option("--side", options->side,
                   "Pixels that the shortest side becomes, of which the square centre is kept; no "
                   "smaller than the image_size of later runs")
      ->check(CLI::Range(worker::kMinPackedSide, worker::kMaxPackedSide))
      ->capture_default_str();
  pack->add_option("--shard-pictures", options->shard_pictures, "Pictures of one file")
      ->check(CLI::Range(std::int64_t{1}, worker::kMaxPackedPictures))
      ->capture_default_str();
  pack->add_option("--threads", options->threads, "Default: all CPUs of this process")
      ->check(CLI::Range(1, 4096));
  pack->add_option("--check", options->check,
                   "Instead: compare the checksums of what was packed into this folder")
      ->excludes("--pictures")
      ->excludes("--out")
      ->excludes("--side")
      ->excludes("--shard-pictures")
      ->excludes("--threads");
  pack->final_callback([options] {
    const bool packs = !options->pictures.empty() && !options->out.empty();
    if (options->check.empty() && !packs)
      throw CLI::RequiredError("--pictures and --out, or --check");
  });
  return {pack, [options] { return worker::run_pack(*options); }};
}

Command add_models(CLI::App& app) {
  auto as_json = std::make_shared<bool>(false);
  auto* models = app.add_subcommand("models", "The networks that a spec may name");
  models->add_flag("--json", *as_json, "As JSON");
  return {models, [as_json] { return print_models(*as_json); }};
}

int run(int argc, char** argv) {
  CLI::App app{"Trains a network on this host and measures it.", "rackmark-worker"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::function<std::string()>(version_line));
  app.footer(
      "Exit status: 0 done, 1 failed, 2 bad usage or refused spec, 3 out of memory, 4 nobody reads "
      "the events, 143 ended by SIGTERM.");
  const std::vector<Command> commands = {add_run(app), add_verify(app), add_roofline(app),
                                         add_pack(app), add_models(app)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "rackmark-worker: %s (see --help)\n", error.what());
    return worker::kExitBadSpec;
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.work();
  }
  return worker::kExitBadSpec;  // not reached: one subcommand is required
}

}  // namespace

int main(int argc, char** argv) try {
  return run(argc, argv);
} catch (const std::exception& error) {
  std::fprintf(stderr, "rackmark-worker: %s\n", error.what());
  return rackmark::worker::kExitFailure;
}
