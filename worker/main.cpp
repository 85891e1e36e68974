// rackmark-worker: the training engine of one rank; also useful alone, with no service around it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>

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

int run(int argc, char** argv) {
  CLI::App app{"Trains a network on this host and measures it.", "rackmark-worker"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::function<std::string()>(version_line));
  app.footer(
      "Exit status: 0 done, 1 failed, 2 bad usage or refused spec, 3 out of memory, 4 nobody reads "
      "the events, 143 ended by SIGTERM.");

  worker::RunOptions options;
  std::string output = "json";
  auto* train = app.add_subcommand("run",
                                   "Train as a job spec says; events go to standard output "
                                   "or to the socket named by RACKMARK_EVENTS");
  // No option group: CLI11 2.4 reads no environment for a group that the command line leaves out.
  auto* spec = train->add_option("--spec", options.spec_path, "File with a job spec (JSON)")
                   ->envname("RACKMARK_SPEC");
  train->add_option("--tf", options.tf_flags, "Flag line of tf_cnn_benchmarks instead of a spec")
      ->excludes(spec);
  train->add_option("--output", output, "json: event lines; tf: tf_cnn_benchmarks' lines")
      ->check(CLI::IsMember({"json", "tf"}));
  train->add_flag("--profile", options.profile,
                  "After the measured window time every layer in a separate pass; the table goes "
                  "to standard error");
  train->add_option("--backend", options.backend, "Default: the best one of this host");
  train
      ->add_option("--micro-batches", options.micro_batches,
                   "Test option: one rank plays this many ranks")
      ->check(CLI::Range(1, 64));
  train->add_option(
      "--dump-parameters", options.dump_path,
      "Test option: write the parameters here when done (float32), names to FILE.json");

  worker::VerifyOptions verify;
  auto* check = app.add_subcommand("verify", "Compare a backend with reference results");
  check->add_option("--reference", verify.references, "Reference file; may be repeated")
      ->required();
  check->add_option("--backend", verify.backend, "Default: the best one of this host");
  check->add_option("--precision", verify.precision, "What the backend computes in");
  check->add_option("--threads", verify.threads, "Default: all CPUs of this process");
  check->add_option("--inject", verify.inject,
                    "Self-test, a deliberate fault: negate-gradient=PARAMETER or "
                    "negate-residual-gradient");
  check->add_flag("--json", verify.json, "One JSON document instead of tables");

  worker::RooflineOptions roofline;
  auto* ceilings = app.add_subcommand("roofline",
                                      "What this device can do at most: matrix products, "
                                      "convolutions, memory; with --model the time that the "
                                      "convolutions of a model need alone; with --collectives "
                                      "the exchange between ranks");
  ceilings->add_option("--threads", roofline.threads, "Default: the physical cores of this process")
      ->check(CLI::Range(1, 4096));
  ceilings->add_option("--backend", roofline.backend, "Default: the best one of this host");
  ceilings->add_flag("--json", roofline.json, "One JSON document instead of lines");
  auto* bound_of = ceilings->add_option("--model", roofline.model, "Convolution-only bound of it");
  ceilings->add_option("--batch", roofline.batch, "Default: the model's")
      ->needs(bound_of)
      ->check(CLI::Range(1, 65536));
  ceilings->add_option("--image-size", roofline.image_size, "Default: the model's")
      ->needs(bound_of)
      ->check(CLI::Range(8, 1024));
  ceilings->add_option("--mode", roofline.mode, "inference: forward passes only")
      ->needs(bound_of)
      ->check(CLI::IsMember({"training", "inference"}))
      ->capture_default_str();

  worker::CollectivesOptions collectives;
  bool measures_collectives = false;
  auto* exchange = ceilings->add_flag(
      "--collectives", measures_collectives,
      "Under mpirun instead: all-reduce, broadcast and push-pull over message sizes");
  exchange->excludes(bound_of);
  ceilings->add_option("--algorithm", collectives.algorithm, "Of the all-reduce")
      ->needs(exchange)
      ->check(CLI::IsMember({"auto", "ring", "recursive_doubling", "rabenseifner"}))
      ->capture_default_str();
  ceilings->add_option("--operations", collectives.operations, "Only these, with commas between")
      ->needs(exchange)
      ->delimiter(',')
      ->check(CLI::IsMember({"all_reduce", "broadcast", "push_pull"}))
      ->capture_default_str();
  ceilings->add_option("--min-bytes", collectives.min_bytes, "Smallest message")
      ->needs(exchange)
      ->check(CLI::Range(64, 1 << 30))
      ->capture_default_str();
  ceilings->add_option("--max-bytes", collectives.max_bytes, "Largest message")
      ->needs(exchange)
      ->check(CLI::Range(64, 1 << 30))
      ->capture_default_str();

  worker::PackOptions packing;
  auto* pack = app.add_subcommand("pack",
                                  "Decode a tree of JPEG pictures once, into the shards that "
                                  "input.kind packed reads");
  pack->add_option("--pictures", packing.pictures, "Folder with one folder of JPEG files a class");
  pack->add_option("--out", packing.out, "Folder to write to: new or empty");
  pack->add_option("--side", packing.side,
                   "Pixels that the shortest side becomes, of which the square centre is kept; no "
                   "smaller than the image_size of later runs")
      ->check(CLI::Range(worker::kMinPackedSide, worker::kMaxPackedSide))
      ->capture_default_str();
  pack->add_option("--shard-pictures", packing.shard_pictures, "Pictures of one file")
      ->check(CLI::Range(std::int64_t{1}, worker::kMaxPackedPictures))
      ->capture_default_str();
  pack->add_option("--threads", packing.threads, "Default: all CPUs of this process")
      ->check(CLI::Range(1, 4096));
  pack->add_option("--check", packing.check,
                   "Instead: compare the checksums of what was packed into this folder")
      ->excludes("--pictures")
      ->excludes("--out")
      ->excludes("--side")
      ->excludes("--shard-pictures")
      ->excludes("--threads");

  bool models_json = false;
  auto* models = app.add_subcommand("models", "The networks that a spec may name");
  models->add_flag("--json", models_json, "As JSON");

  try {
    app.parse(argc, argv);
    if (train->parsed() && options.spec_path.empty() && options.tf_flags.empty())
      throw CLI::RequiredError("--spec or --tf");
    if (pack->parsed() && packing.check.empty() &&
        (packing.pictures.empty() || packing.out.empty()))
      throw CLI::RequiredError("--pictures and --out, or --check");
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "rackmark-worker: %s (see --help)\n", error.what());
    return worker::kExitBadSpec;
  }
  options.tf_output = output == "tf";
  if (train->parsed()) return worker::run_worker(options, make_session);
  if (check->parsed()) return worker::run_verify(verify);
  collectives.json = roofline.json;
  if (measures_collectives) return worker::run_collectives(collectives);
  if (ceilings->parsed()) return worker::run_roofline(roofline);
  if (pack->parsed()) return worker::run_pack(packing);
  return print_models(models_json);
}

}  // namespace

int main(int argc, char** argv) try {
  return run(argc, argv);
} catch (const std::exception& error) {
  std::fprintf(stderr, "rackmark-worker: %s\n", error.what());
  return rackmark::worker::kExitFailure;
}
