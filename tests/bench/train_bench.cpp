// rackmark-bench-train: the bare training loop of one backend on one batch of random pictures:
// forward, backward, SGD with momentum and weight decay; nothing else. For comparisons with other
// frameworks and for work on kernels; real runs go through rackmark-worker.
//
//   rackmark-bench-train --model resnet50 --batch 16 --steps 5 [--warmup 2] [--threads N]
//                        [--backend onednn] [--precision fp32] [--fusion F] [--image-size N]
//                        [--seconds S] [--warm-seconds S] [--profile] [--bound] [--losses] [--json]
//
// The window is of at least --steps steps and lasts at least --seconds, what is before it likewise.
// The batch has an identity: a device is sent it once, before the window. The window lies between
// two finish() calls; a step ends when its loss is known, and a device may be at work on the rest.
//
// --bound measures the convolution-only bound in turns with the steps, one round a step, and prints
// which share of it the steps reach, by medians and by least times.
//
// Prints one line: "<img/s of the median step> img/s median (best <img/s>; window <img/s of all
// steps>; ...) <facts>"; with --json, one line of JSON instead. --losses adds every step's loss.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>

#include "report.hpp"
#include "worker/backend/backend.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

struct Settings {
  std::string model = "resnet50", backend = "onednn", precision = "fp32", fusion;
  int batch = 16, steps = 5, warmup = 2, threads = 0, image_size = 0;
  double seconds = 0, warm_seconds = 0;
  bool profile = false, evaluate = false, bound = false, losses = false, json = false;
};

Settings parse(int argc, char** argv) {
  Settings s;
  const std::map<std::string, std::string*> texts{{"--model", &s.model},
                                                  {"--backend", &s.backend},
                                                  {"--precision", &s.precision},
                                                  {"--fusion", &s.fusion}};
  const std::map<std::string, int*> numbers{{"--batch", &s.batch},
                                            {"--steps", &s.steps},
                                            {"--warmup", &s.warmup},
                                            {"--threads", &s.threads},
                                            {"--image-size", &s.image_size}};
  const std::map<std::string, double*> lengths{{"--seconds", &s.seconds},
                                               {"--warm-seconds", &s.warm_seconds}};
  const std::map<std::string, bool*> flags{{"--profile", &s.profile},
                                           {"--evaluate", &s.evaluate},
                                           {"--bound", &s.bound},
                                           {"--losses", &s.losses},
                                           {"--json", &s.json}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (const auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
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

// CPU time of all threads: with one thread it says more than the clock on a busy machine.
double cpu_now() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void fill_parameters(TrainPlan& plan) {
  const auto& parameters = plan.net().parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i)
    plan.write_parameter(static_cast<int>(i), initial_value(parameters[i], 1));
}

void print_profile(TrainPlan& plan, const Batch& batch) {
  std::map<std::string, double> by_pass;
  for (const OpTime& op : plan.profile(batch)) {
    std::printf("%-24s %-17s %-28s %8.3f ms %8.1f GFLOP/s %6.1f GB/s\n", op.node.c_str(),
                op.pass.c_str(), op.implementation.c_str(), op.ms, op.gflop / op.ms * 1e3,
                op.bytes / op.ms / 1e6);
    const std::string kind = op.gflop > 0 ? "compute" : op.implementation;
    by_pass[kind + " " + op.pass] += op.ms;
  }
  for (const auto& [pass, ms] : by_pass) std::printf("total %-60s %9.3f ms\n", pass.c_str(), ms);
}

void print_bound(const BoundMeter& meter, const std::vector<double>& sorted_seconds, int batch) {
  const ConvolutionBound bound = meter.result();
  const double median_ms = sorted_seconds[sorted_seconds.size() / 2] * 1e3;
  std::printf(
      "convolution-only bound %.1f ms = %.3f img/s (medians of %lld rounds), least times %.1f ms; "
      "share reached %.3f by medians, %.3f by least times\n",
      bound.ms, batch / bound.ms * 1e3, static_cast<long long>(bound.rounds), bound.best_ms,
      bound.ms / median_ms, bound.best_ms / (sorted_seconds.front() * 1e3));
}

struct Measured {
  std::vector<double> seconds, cpu_seconds;  // of the steps in the window, sorted
  std::optional<double> window_s;            // none where the bound was measured between them
  std::vector<double> losses;                // of all steps, warm-up included
  double compile_s = 0, first_step_s = 0;
};

double one_step(TrainPlan& plan, const Batch& batch, bool evaluate) {
  if (!evaluate) {
    return plan.step(batch, {.learning_rate = 0.01, .momentum = 0.9, .weight_decay = 1e-4}).loss;
  }
  plan.evaluate(batch);
  plan.finish();
  return 0;
}

void measure(TrainPlan& plan, const Batch& batch, const Settings& s, BoundMeter* meter,
             Measured& measured) {
  const auto timed_step = [&] {
    const auto start = bench::Clock::now();
    measured.losses.push_back(one_step(plan, batch, s.evaluate));
    if (meter != nullptr) plan.finish();  // else steps follow each other without a gap
    const double seconds = bench::seconds_since(start);
    if (measured.losses.size() == 1) measured.first_step_s = seconds;
    return seconds;
  };
  const bench::Stretch warm(s.warmup, s.warm_seconds);
  for (int step = 0; warm.goes_on(step); ++step) timed_step();
  plan.finish();
  const bench::Stretch window(s.steps, s.seconds);
  for (int step = 0; window.goes_on(step); ++step) {
    if (meter != nullptr) meter->round();
    const double cpu_start = cpu_now();
    measured.seconds.push_back(timed_step());
    measured.cpu_seconds.push_back(cpu_now() - cpu_start);
  }
  plan.finish();
  if (meter == nullptr) measured.window_s = window.seconds();
  std::sort(measured.seconds.begin(), measured.seconds.end());
  std::sort(measured.cpu_seconds.begin(), measured.cpu_seconds.end());
}

void print_json(const Settings& s, const PlanFacts& facts, const Measured& measured) {
  const auto& seconds = measured.seconds;
  nlohmann::json line = bench::facts_of(facts);
  line.update({{"mode", s.evaluate ? "evaluation" : "training"},
               {"model", s.model},
               {"precision", s.precision},
               {"batch", s.batch},
               {"steps", seconds.size()},
               {"warmup", s.warmup},
               {"images_per_s_median", s.batch / seconds[seconds.size() / 2]},
               {"images_per_s_best", s.batch / seconds.front()},
               {"step_ms", bench::percentiles_of(seconds, 1e3)},
               {"compile_s", measured.compile_s},
               {"first_step_s", measured.first_step_s},
               {"peak_resident_bytes", bench::peak_resident_bytes()},
               {"first_loss", measured.losses.front()},
               {"last_loss", measured.losses.back()}});
  line["images_per_s"] = nullptr;
  line["window_s"] = nullptr;
  if (measured.window_s) {
    line["images_per_s"] = static_cast<double>(seconds.size()) * s.batch / *measured.window_s;
    line["window_s"] = *measured.window_s;
  }
  if (s.losses) line["losses"] = measured.losses;
  std::printf("%s\n", line.dump().c_str());
}

void print_line(const Settings& s, const PlanFacts& facts, const Measured& measured) {
  const auto& seconds = measured.seconds;
  char window[32] = "-";
  if (measured.window_s) {
    std::snprintf(window, sizeof window, "%.3f",
                  static_cast<double>(seconds.size()) * s.batch / *measured.window_s);
  }
  std::printf(
      "%.3f img/s median (best %.3f; window %s; %.2f CPU s a step) %s %s bs%d threads %d fusion %s "
      "isa %s arena %.2f GB peakRSS %.2f GB loss %.4f -> %.4f\n",
      s.batch / seconds[seconds.size() / 2], s.batch / seconds.front(), window,
      measured.cpu_seconds[seconds.size() / 2], s.model.c_str(), s.precision.c_str(), s.batch,
      facts.threads, facts.fusion.c_str(), facts.isa.c_str(),
      static_cast<double>(facts.arena_bytes) / 1e9, bench::peak_resident_bytes() / 1e9,
      measured.losses.front(), measured.losses.back());
  if (!s.losses) return;
  std::printf("losses");
  for (const double loss : measured.losses) std::printf(" %.6g", loss);
  std::printf("\n");
}

int run(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  const Net net = build_model(s.model, s.image_size);
  PlanOptions options;
  options.batch = s.batch;
  options.threads = s.threads;
  options.precision = s.precision;
  options.fusion = s.fusion;
  const auto backend = load_backend(s.backend);
  if (std::string why_not; !backend->usable(&why_not)) {
    throw std::runtime_error("backend " + s.backend + " cannot be used here: " + why_not);
  }
  Measured measured;
  const auto start = bench::Clock::now();
  const auto plan = backend->compile(net, options);
  measured.compile_s = bench::seconds_since(start);
  fill_parameters(*plan);
  const auto meter = s.bound ? backend->convolution_bound(net, options, !s.evaluate) : nullptr;
  if (s.bound && !meter) throw std::invalid_argument("--bound: this backend has no such bound");

  std::mt19937 random(1);
  const std::vector<float> images = bench::random_pictures(net, s.batch, random);
  std::vector<std::int32_t> labels(s.batch);
  for (auto& label : labels) label = static_cast<std::int32_t>(random() % net.classes());
  const Batch batch{images, labels, bench::kIdentity};

  measure(*plan, batch, s, meter.get(), measured);
  if (s.profile) print_profile(*plan, batch);
  if (s.json)
    print_json(s, plan->facts(), measured);
  else
    print_line(s, plan->facts(), measured);
  if (meter) print_bound(*meter, measured.seconds, s.batch);
  return 0;
}

}  // namespace
}  // namespace rackmark::worker

int main(int argc, char** argv) {
  try {
    return rackmark::worker::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-bench-train: %s\n", error.what());
  }
  return 1;
}
