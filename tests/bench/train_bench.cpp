// rackmark-bench-train: the bare training loop of one backend on one batch of random pictures:
// forward, backward, SGD with momentum and weight decay; nothing else. For comparisons with other
// frameworks and for work on kernels; real runs go through rackmark-worker.
//
//   rackmark-bench-train --model resnet50 --batch 16 --steps 5 [--warmup 2] [--threads N]
//                        [--backend onednn] [--fusion F] [--image-size N] [--profile] [--bound]
//
// --bound measures the convolution-only bound in turns with the steps, one round a step, and prints
// which share of it the steps reach, by medians and by least times.
//
// Prints one line: "<img/s of the median step> img/s median (best <img/s>) <facts>".
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <map>
#include <random>
#include <stdexcept>
#include <string>

#include "worker/backend/backend.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

struct Settings {
  std::string model = "resnet50", backend = "onednn", fusion;
  int batch = 16, steps = 5, warmup = 2, threads = 0, image_size = 0;
  bool profile = false, evaluate = false, bound = false;
};

Settings parse(int argc, char** argv) {
  Settings s;
  const std::map<std::string, std::string*> texts{
      {"--model", &s.model}, {"--backend", &s.backend}, {"--fusion", &s.fusion}};
  const std::map<std::string, int*> numbers{{"--batch", &s.batch},
                                            {"--steps", &s.steps},
                                            {"--warmup", &s.warmup},
                                            {"--threads", &s.threads},
                                            {"--image-size", &s.image_size}};
  const std::map<std::string, bool*> flags{
      {"--profile", &s.profile}, {"--evaluate", &s.evaluate}, {"--bound", &s.bound}};
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

int run(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  const Net net = build_model(s.model, s.image_size);
  PlanOptions options;
  options.batch = s.batch;
  options.threads = s.threads;
  options.fusion = s.fusion;
  const auto backend = load_backend(s.backend);
  const auto plan = backend->compile(net, options);
  fill_parameters(*plan);
  const auto meter = s.bound ? backend->convolution_bound(net, options, !s.evaluate) : nullptr;
  if (s.bound && !meter) throw std::invalid_argument("--bound: this backend has no such bound");

  std::mt19937 random(1);
  std::normal_distribution<float> pixel;
  std::vector<float> images(s.batch * net.nodes()[0].shape.elements());
  for (float& value : images) value = pixel(random);
  std::vector<std::int32_t> labels(s.batch);
  for (auto& label : labels) label = static_cast<std::int32_t>(random() % net.classes());
  const Batch batch{images, labels};

  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds, cpu_seconds;
  double first_loss = 0, loss = 0;
  for (int step = 0; step < s.warmup + s.steps; ++step) {
    if (meter && step >= s.warmup) meter->round();
    const auto start = Clock::now();
    const double cpu_start = cpu_now();
    if (s.evaluate) {
      plan->evaluate(batch);
    } else {
      loss = plan->forward(batch);
      plan->backward();
      plan->update({.learning_rate = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
    }
    if (step == 0) first_loss = loss;
    if (step >= s.warmup) {
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      cpu_seconds.push_back(cpu_now() - cpu_start);
    }
  }
  if (s.profile) print_profile(*plan, batch);
  std::sort(seconds.begin(), seconds.end());
  std::sort(cpu_seconds.begin(), cpu_seconds.end());
  const PlanFacts facts = plan->facts();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "%.3f img/s median (best %.3f; %.2f CPU s a step) %s bs%d threads %d fusion %s isa %s arena "
      "%.2f GB "
      "peakRSS %.2f GB loss %.4f -> %.4f\n",
      s.batch / seconds[seconds.size() / 2], s.batch / seconds.front(),
      cpu_seconds[cpu_seconds.size() / 2], s.model.c_str(), s.batch, facts.threads,
      facts.fusion.c_str(), facts.isa.c_str(), static_cast<double>(facts.arena_bytes) / 1e9,
      static_cast<double>(usage.ru_maxrss) / 1e6, first_loss, loss);
  if (meter) print_bound(*meter, seconds, s.batch);
  return 0;
}

}  // namespace
}  // namespace rackmark::worker

int main(int argc, char** argv) {
  try {
    return rackmark::worker::run(argc, argv);
  } catch (const rackmark::worker::OutOfMemory& error) {
    std::fprintf(stderr, "rackmark-bench-train: out of memory: %lld bytes wanted, %lld free\n",
                 static_cast<long long>(error.bytes_wanted),
                 static_cast<long long>(error.bytes_free));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-bench-train: %s\n", error.what());
  }
  return 1;
}
