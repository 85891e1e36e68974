// rackmark-bench-infer: the bare inference loop of one backend on one batch of random pictures, for
// comparisons with other frameworks and for work on kernels; real runs go through rackmark-worker.
//
//   rackmark-bench-infer MODEL PRECISION BATCH [--steps 30] [--warmup 5] [--threads N]
//                        [--backend onednn] [--fusion F] [--image-size N] [--profile]
//
// Prints one line: "<img/s of the median step> img/s median (best <img/s>) p50 .. p90 .. p95 .. p99
// .. max .. ms <facts>". Percentiles are nearest-rank.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <stdexcept>
#include <string>

#include "worker/backend/backend.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

struct Settings {
  std::string model, precision, backend = "onednn", fusion;
  int batch = 1, steps = 30, warmup = 5, threads = 0, image_size = 0;
  bool profile = false;
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
  for (int i = 4; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--profile") {
      s.profile = true;
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

TrainedValues initial_values(const Net& net) {
  TrainedValues values;
  for (const Parameter& p : net.parameters()) values.parameters.push_back(initial_value(p, 1));
  for (const RunningStatistic& s : net.running_statistics()) {
    const bool variance = s.name.ends_with(".running_var");
    values.running.emplace_back(static_cast<std::size_t>(s.channels), variance ? 1.0F : 0.0F);
  }
  return values;
}

std::vector<float> random_pictures(const Net& net, int batch) {
  std::mt19937 random(1);
  std::normal_distribution<float> pixel;
  std::vector<float> images(static_cast<std::size_t>(batch * net.nodes()[0].shape.elements()));
  for (float& value : images) value = pixel(random);
  return images;
}

void print_profile(InferPlan& plan, const std::vector<float>& images) {
  double total = 0;
  for (const OpTime& op : plan.profile(images)) {
    std::printf("%-24s %-32s %8.3f ms %8.1f GFLOP/s %6.1f GB/s\n", op.node.c_str(),
                op.implementation.c_str(), op.ms, op.gflop / op.ms * 1e3, op.bytes / op.ms / 1e6);
    total += op.ms;
  }
  std::printf("total %9.3f ms\n", total);
}

int run(int argc, char** argv) {
  const Settings s = parse(argc, argv);
  const Net net = build_model(s.model, s.image_size);
  const auto images = random_pictures(net, s.batch);
  InferOptions options;
  options.batch = s.batch;
  options.threads = s.threads;
  options.fusion = s.fusion;
  options.precision = s.precision;
  if (s.precision == "int8") options.calibration = {images};
  const auto backend = load_backend(s.backend);
  const auto plan = backend->compile_inference(net, options, initial_values(net));

  using Clock = std::chrono::steady_clock;
  std::vector<double> ms;
  for (int step = 0; step < s.warmup + s.steps; ++step) {
    const auto start = Clock::now();
    plan->run(images);
    const std::chrono::duration<double, std::milli> took = Clock::now() - start;
    if (step >= s.warmup) ms.push_back(took.count());
  }
  if (s.profile) print_profile(*plan, images);
  std::sort(ms.begin(), ms.end());
  const auto percentile = [&](double q) {
    const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(ms.size())));
    return ms[std::max<std::size_t>(rank, 1) - 1];
  };
  const PlanFacts facts = plan->facts();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "%.3f img/s median (best %.3f) p50 %.3f p90 %.3f p95 %.3f p99 %.3f max %.3f ms %s %s bs%d "
      "threads %d fusion %s isa %s arena %.3f GB peakRSS %.3f GB\n",
      1e3 * s.batch / ms[ms.size() / 2], 1e3 * s.batch / ms.front(), percentile(0.5),
      percentile(0.9), percentile(0.95), percentile(0.99), ms.back(), s.model.c_str(),
      s.precision.c_str(), s.batch, facts.threads, facts.fusion.c_str(), facts.isa.c_str(),
      static_cast<double>(facts.arena_bytes) / 1e9, static_cast<double>(usage.ru_maxrss) / 1e6);
  for (const auto& [name, text] : facts.notes) std::printf("%s: %s\n", name.c_str(), text.c_str());
  return 0;
}

}  // namespace
}  // namespace rackmark::worker

int main(int argc, char** argv) {
  try {
    return rackmark::worker::run(argc, argv);
  } catch (const rackmark::worker::OutOfMemory& error) {
    std::fprintf(stderr, "rackmark-bench-infer: out of memory: %lld bytes wanted, %lld free\n",
                 static_cast<long long>(error.bytes_wanted),
                 static_cast<long long>(error.bytes_free));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-bench-infer: %s\n", error.what());
  }
  return 1;
}
