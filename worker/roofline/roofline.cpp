#include "worker/roofline/roofline.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include "common/domain/spec.hpp"
#include "common/json/json.hpp"
#include "worker/backend/backend.hpp"
#include "worker/failure.hpp"
#include "worker/models/registry.hpp"
#include "worker/roofline/memory.hpp"
#include "worker/train/cpus.hpp"

namespace rackmark::worker {
namespace {

constexpr double kBoundSeconds = 6;
constexpr int kFewestRounds = 5, kMostRounds = 25;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

// One CPU of each physical core of this process, as many as there are threads.
std::vector<int> first_cpus(std::int64_t threads) {
  std::vector<int> cpus;
  for (const auto& core : usable_cpus().cores) {
    if (static_cast<std::int64_t>(cpus.size()) < threads) cpus.push_back(core.front());
  }
  while (static_cast<std::int64_t>(cpus.size()) < threads) cpus.push_back(cpus[cpus.size() / 2]);
  return cpus;
}

Json to_json(const Ceiling& c) {
  return {{"kind", c.kind},
          {"what", c.what},
          {"precision", c.precision.empty() ? Json() : Json(c.precision)},
          {"unit", c.unit},
          {"best", or_null(c.best)},
          {"median", or_null(c.median)},
          {"spread", or_null(c.spread)},
          {"runs", c.runs},
          {"implementation", c.implementation},
          {"why_not", c.why_not.empty() ? Json() : Json(c.why_not)}};
}

void print(const Ceiling& c) {
  std::printf("%-12s %-5s %-42s ", c.kind.c_str(), c.precision.c_str(), c.what.c_str());
  if (!c.best) return void(std::printf("not measured: %s\n", c.why_not.c_str()));
  std::printf("best %8.1f %-8s median %8.1f %-8s spread %5.1f %%  (%lld runs, %s)\n", *c.best,
              c.unit.c_str(), *c.median, c.unit.c_str(), *c.spread * 100,
              static_cast<long long>(c.runs), c.implementation.c_str());
}

// The fastest matrix product of each precision: what results are compared with.
void print_peaks(const std::vector<Ceiling>& all) {
  std::vector<const Ceiling*> peaks;  // in the order in which precisions were measured
  for (const Ceiling& c : all) {
    if (c.kind != "matrix" || !c.best) continue;
    const auto known = std::find_if(peaks.begin(), peaks.end(), [&](const Ceiling* peak) {
      return peak->precision == c.precision;
    });
    if (known == peaks.end()) {
      peaks.push_back(&c);
    } else if (*c.best > *(*known)->best) {
      *known = &c;
    }
  }
  for (const Ceiling* peak : peaks) {
    std::printf("peak         %-5s %-42s best %8.1f %s\n", peak->precision.c_str(), "matrix",
                *peak->best, peak->unit.c_str());
  }
}

int print_ceilings(const RooflineOptions& options, Backend& backend, std::int64_t threads) {
  std::vector<Ceiling> all = backend.ceilings(static_cast<int>(threads));
  if (all.empty()) {
    std::fprintf(stderr, "rackmark-worker: backend %s measures no ceilings of its own\n",
                 backend.name().c_str());
  }
  for (Ceiling& c : measure_memory(first_cpus(threads))) all.push_back(std::move(c));
  if (options.json) {
    Json list = Json::array();
    for (const Ceiling& c : all) list.push_back(to_json(c));
    const Json out = {{"backend", backend.name()},
                      {"libraries", backend.libraries()},
                      {"threads", threads},
                      {"ceilings", std::move(list)}};
    std::printf("%s\n", out.dump(2).c_str());
    return kExitOk;
  }
  std::printf(
      "backend %s, %lld threads; GFLOP/s: a multiply-add is 2; GB/s: 1e9 bytes, copy and "
      "triad as STREAM counts them\n",
      backend.name().c_str(), static_cast<long long>(threads));
  for (const Ceiling& c : all) print(c);
  print_peaks(all);
  return kExitOk;
}

ConvolutionBound measure(BoundMeter& meter) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed_s = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (int round = 0; round < kMostRounds && (round < kFewestRounds || elapsed_s() < kBoundSeconds);
       ++round) {
    meter.round();
  }
  return meter.result();
}

Json to_json(const ConvolutionBound& bound, const RooflineOptions& options, std::int64_t batch,
             std::int64_t threads) {
  Json rows = Json::array();
  for (const BoundRow& row : bound.rows) {
    rows.push_back({{"shape", row.shape},
                    {"pass", row.pass},
                    {"count", row.count},
                    {"ms", row.ms},
                    {"best_ms", row.best_ms},
                    {"gflops", row.gflop / row.ms * 1e3},
                    {"implementation", row.implementation}});
  }
  const auto pictures = static_cast<double>(batch);
  return {{"model", options.model},
          {"mode", options.mode},
          {"precision", options.precision},
          {"batch_size", batch},
          {"threads", threads},
          {"rounds", bound.rounds},
          {"bound_ms", bound.ms},
          {"bound_best_ms", bound.best_ms},
          {"images_per_second", pictures / bound.ms * 1e3},
          {"best_images_per_second", pictures / bound.best_ms * 1e3},
          {"rows", std::move(rows)}};
}

void print(const ConvolutionBound& bound, const RooflineOptions& options, std::int64_t batch,
           std::int64_t threads) {
  std::printf("%-52s %-17s %5s %10s %10s %9s %6s  %s\n", "shape (one image)", "pass", "count",
              "ms each", "least ms", "GFLOP/s", "share", "implementation");
  for (const BoundRow& row : bound.rows) {
    std::printf("%-52s %-17s %5lld %10.3f %10.3f %9.1f %5.1f%%  %s\n", row.shape.c_str(),
                row.pass.c_str(), static_cast<long long>(row.count), row.ms, row.best_ms,
                row.gflop / row.ms * 1e3, 100 * static_cast<double>(row.count) * row.ms / bound.ms,
                row.implementation.c_str());
  }
  const auto pictures = static_cast<double>(batch);
  std::printf(
      "convolution-only bound of %s %s, %s, batch %lld, %lld threads: %.1f ms = %.3f img/s (sum of "
      "medians of %lld rounds); %.1f ms = %.3f img/s (sum of least times)\n",
      options.model.c_str(), options.mode.c_str(), options.precision.c_str(),
      static_cast<long long>(batch), static_cast<long long>(threads), bound.ms,
      pictures / bound.ms * 1e3, static_cast<long long>(bound.rounds), bound.best_ms,
      pictures / bound.best_ms * 1e3);
}

std::int64_t default_batch(const std::string& model) {
  for (const ModelFacts& facts : model_facts()) {
    if (facts.name == model && facts.default_batch > 0) return facts.default_batch;
  }
  return 16;
}

int print_bound(const RooflineOptions& options, Backend& backend, std::int64_t threads) {
  const std::int64_t batch = options.batch > 0 ? options.batch : default_batch(options.model);
  const Net net = build_model(options.model, static_cast<int>(options.image_size));
  PlanOptions plan;
  plan.batch = static_cast<int>(batch);
  plan.threads = static_cast<int>(threads);
  plan.precision = options.precision;
  const auto meter = backend.convolution_bound(net, plan, options.mode == "training");
  if (!meter) {
    std::fprintf(stderr, "rackmark-worker: backend %s has no convolution-only bound in %s\n",
                 backend.name().c_str(), options.precision.c_str());
    return kExitFailure;
  }
  const ConvolutionBound bound = measure(*meter);
  if (options.json) {
    std::printf("%s\n", to_json(bound, options, batch, threads).dump(2).c_str());
  } else {
    print(bound, options, batch, threads);
  }
  return kExitOk;
}

}  // namespace

int run_roofline(const RooflineOptions& options) {
  const auto cores = shared_cores(usable_cpus(), LaunchedRanks{});
  const std::int64_t threads = options.threads > 0 ? options.threads : cores;
  if (threads > cores) {
    std::fprintf(stderr, "rackmark-worker: --threads is %lld, allowed: 1 to %lld (cores)\n",
                 static_cast<long long>(threads), static_cast<long long>(cores));
    return kExitBadSpec;
  }
  flush_denormals();
  const auto backend = options.backend.empty() ? best_backend() : load_backend(options.backend);
  if (options.model.empty()) return print_ceilings(options, *backend, threads);
  try {
    return print_bound(options, *backend, threads);
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "rackmark-worker: %s\n", error.what());
    return kExitBadSpec;
  } catch (const OutOfMemory& error) {
    std::fprintf(stderr, "rackmark-worker: %s\n", error.what());
    return kExitOutOfMemory;
  }
}

}  // namespace rackmark::worker
