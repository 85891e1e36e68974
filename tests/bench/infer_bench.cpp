// rackmark-bench-infer: the bare inference loop of one backend on one batch of random pictures, for
// comparisons with other frameworks and for work on kernels; real runs go through rackmark-worker.
//
//   rackmark-bench-infer MODEL PRECISION BATCH [--steps 30] [--warmup 5] [--threads N]
//                        [--backend onednn] [--fusion F] [--image-size N]
//                        [--seconds S] [--warm-seconds S] [--profile] [--json]
//
// The window is of at least --steps runs and lasts at least --seconds, what is before it likewise.
// The batch has an identity: a device is sent it once. A run ends when its answers are there.
//
// Prints one line: "<img/s of the median run> img/s median (best <img/s>; window <img/s of all
// runs>) p50 .. p90 .. p95 .. p99 .. max .. ms <facts>"; with --json, one line of JSON instead.
// Percentiles are nearest-rank.
#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <stdexcept>
#include <string>

#include "report.hpp"
#include "worker/backend/backend.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

struct Settings {
  std::string model, precision, backend = "onednn", fusion;
  int batch = 1, steps = 30, warmup = 5, threads = 0, image_size = 0;
  double seconds = 0, warm_seconds = 0;
  bool profile = false, json = false;
};

Settings parse(int argc, char** argv) {
  Settings s;
  if (argc < 4) throw std::invalid_argument("wanted: MODEL PRECISION BATCH [options]");
  s.model = argv[1];
  s.precision = argv[2];
  s.batch = std::stoi(argv[3]);
  const std::map<std::string, std::string*> texts{{"--backend", &s.backend},
                                                  {"--fusion", &s.fusion}};
  const std::map<std::string, int*> numbers{{"--steps", &s.steps},
                                            {"--warmup", &s.warmup},
                                            {"--threads", &s.threads},
                                            {"--image-size", &s.image_size}};
  const std::map<std::string, double*> lengths{{"--seconds", &s.seconds},
                                               {"--warm-seconds", &s.warm_seconds}};
  for (int i = 4; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--profile" || name == "--json") {
      (name == "--json" ? s.json : s.profile) = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument("no value after '" + name + "'");
    const std::string value = argv[++i];
    if (const auto text = texts.find(name); text != texts.end())
      *text->second = value;
    else if (const auto number = numbers.find(name); number != numbers.end())
      *number->second = std::stoi(value);
    else if (const auto length = lengths.find(name); length != lengths.end())
      *length->second = std::stod(value);
    else
      throw std::invalid_argument("unknown option '" + name + "'");
  }
  if (s.batch < 1 || s.steps < 1 || s.warmup < 0)
    throw std::invalid_argument("batch and steps must be at least 1, warmup at least 0");
  return s;
}

TrainedValues initial_values(const Net& net) {
  TrainedValues values;
  for (const Parameter& p : net.parameters()) values.parameters.push_back(initial_value(p, 1));
  for (const RunningStatistic& s : net.running_statistics()) {
    const bool variance = s.name.ends_with(".running_var");
    values.running.emplace_back(static_cast<std::size_t>(s.channels), variance ? 1.0F : 0.0F);
  }
  return values;
}

void print_profile(InferPlan& plan, const Batch& batch) {
  double total = 0;
  for (const OpTime& op : plan.profile(batch)) {
    std::printf("%-24s %-32s %8.3f ms %8.1f GFLOP/s %6.1f GB/s\n", op.node.c_str(),
                op.implementation.c_str(), op.ms, op.gflop / op.ms * 1e3, op.bytes / op.ms / 1e6);
    total += op.ms;
  }
  std::printf("total %9.3f ms\n", total);
}

struct Measured {
  std::vector<double> seconds;  // of the runs in the window, sorted
  double window_s = 0, compile_s = 0, first_run_s = 0;
};

void measure(InferPlan& plan, const Batch& batch, const Settings& s, Measured& measured) {
  const auto timed_run = [&] {
    const auto start = bench::Clock::now();
    plan.run(batch);
    return bench::seconds_since(start);
  };
  const bench::Stretch warm(s.warmup, s.warm_seconds);
  for (int run = 0; warm.goes_on(run); ++run) {
    const double seconds = timed_run();
    if (run == 0) measured.first_run_s = seconds;
  }
  const bench::Stretch window(s.steps, s.seconds);
  for (int run = 0; window.goes_on(run); ++run) measured.seconds.push_back(timed_run());
  measured.window_s = window.seconds();
  if (measured.first_run_s == 0) measured.first_run_s = measured.seconds.front();
  std::sort(measured.seconds.begin(), measured.seconds.end());
}

void print_json(const Settings& s, const PlanFacts& facts, const Measured& measured) {
  const auto& seconds = measured.seconds;
  nlohmann::json line = bench::facts_of(facts);
  line.update({{"mode", "inference"},
               {"model", s.model},
               {"precision", s.precision},
               {"batch", s.batch},
               {"steps", seconds.size()},
               {"warmup", s.warmup},
               {"images_per_s", static_cast<double>(seconds.size()) * s.batch / measured.window_s},
               {"window_s", measured.window_s},
               {"images_per_s_median", s.batch / seconds[seconds.size() / 2]},
               {"images_per_s_best", s.batch / seconds.front()},
               {"step_ms", bench::percentiles_of(seconds, 1e3)},
               {"compile_s", measured.compile_s},
               {"first_step_s", measured.first_run_s},
               {"peak_resident_bytes", bench::peak_resident_bytes()}});
  std::printf("%s\n", line.dump().c_str());
}

void print_line(const Settings& s, const PlanFacts& facts, const Measured& measured) {
  const auto& seconds = measured.seconds;
  const auto ms = [&](double share) { return 1e3 * bench::percentile(seconds, share); };
  std::printf(
      "%.3f img/s median (best %.3f; window %.3f) p50 %.3f p90 %.3f p95 %.3f p99 %.3f max %.3f ms "
      "%s %s bs%d threads %d fusion %s isa %s arena %.3f GB peakRSS %.3f GB\n",
      s.batch / seconds[seconds.size() / 2], s.batch / seconds.front(),
      static_cast<double>(seconds.size()) * s.batch / measured.window_s, ms(0.5), ms(0.9), ms(0.95),
      ms(0.99), ms(1), s.model.c_str(), s.precision.c_str(), s.batch, facts.threads,
      facts.fusion.c_str(), facts.isa.c_str(), static_cast<double>(facts.arena_bytes) / 1e9,
      bench::peak_resident_bytes() / 1e9);
  for (const auto& [name, text] : facts.notes) std::printf("%s: %s\n", name.c_str(), text.c_str());
}

int run(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  const Net net = build_model(s.model, s.image_size);
  std::mt19937 random(1);
  const auto images = bench::random_pictures(net, s.batch, random);
  InferOptions options;
  options.batch = s.batch;
  options.threads = s.threads;
  options.fusion = s.fusion;
  options.precision = s.precision;
  if (s.precision == "int8") options.calibration = {images};
  const auto backend = load_backend(s.backend);
  if (std::string why_not; !backend->usable(&why_not)) {
    throw std::runtime_error("backend " + s.backend + " cannot be used here: " + why_not);
  }
  Measured measured;
  const auto start = bench::Clock::now();
  const auto plan = backend->compile_inference(net, options, initial_values(net));
  measured.compile_s = bench::seconds_since(start);
  const Batch batch{.images = images, .identity = bench::kIdentity};
  measure(*plan, batch, s, measured);
  if (s.profile) print_profile(*plan, batch);
  if (s.json)
    print_json(s, plan->facts(), measured);
  else
    print_line(s, plan->facts(), measured);
  return 0;
}

}  // namespace
}  // namespace rackmark::worker

int main(int argc, char** argv) {
  try {
    return rackmark::worker::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-bench-infer: %s\n", error.what());
  }
  return 1;
}
