#include "worker/backend/onednn/ceilings.hpp"

#include <algorithm>
#include <chrono>

#include "worker/backend/backend.hpp"
#include "worker/backend/caches.hpp"
#include "worker/backend/onednn/threads.hpp"
#include "worker/backend/onednn/workbench.hpp"

namespace rackmark::worker::onednn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kSecondsEach = 0.35;  // of one ceiling, set-up aside
constexpr int kFewestRuns = 3, kMostRuns = 15;
constexpr std::int64_t kPictures = 16;  // batch of the convolutions

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int threads_of(int asked) { return asked > 0 ? asked : omp_get_num_procs(); }

struct Precision {
  const char* name;
  const char* unit;
  MatrixType type;
  Content content;
};
constexpr Precision kPrecisions[] = {
    {"fp32", "GFLOP/s", MatrixType::kFp32, Content::kFloats},
    {"bf16", "GFLOP/s", MatrixType::kBf16, Content::kBfloats},
    {"int8", "GOP/s", MatrixType::kInt8, Content::kBytes},
};

// "" where the CPU has instructions for it.
std::string why_not(MatrixType type) {
  if (type == MatrixType::kBf16 && !has_bf16()) {
    return "this CPU (" + isa_name() + ") has no bf16 products: they would be emulated in fp32";
  }
  if (type == MatrixType::kInt8 && !has_integer_dot_products()) {
    return "this CPU (" + isa_name() + ") has no int8 dot products (VNNI)";
  }
  return "";
}

// The least multiple of 512 whose three float matrices are twice the last-level cache.
std::int64_t size_beyond_cache() {
  std::int64_t n = 2048;
  while (3 * n * n * std::int64_t{sizeof(float)} < 2 * last_level_cache_bytes()) n += 512;
  return n;
}

// Seconds of each run, after one that is not counted.
std::vector<double> timed(Workbench& bench, std::size_t task, double budget_s) {
  bench.seconds(task);
  std::vector<double> seconds;
  const auto start = Clock::now();
  while (static_cast<int>(seconds.size()) < kFewestRuns ||
         (static_cast<int>(seconds.size()) < kMostRuns && since(start) < budget_s)) {
    seconds.push_back(bench.seconds(task));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

void take(Ceiling& ceiling, double work, const std::vector<double>& sorted_seconds) {
  ceiling.runs = static_cast<std::int64_t>(sorted_seconds.size());
  ceiling.best = work / sorted_seconds.front();
  ceiling.median = work / sorted_seconds[sorted_seconds.size() / 2];
  ceiling.spread = (*ceiling.best - work / sorted_seconds.back()) / *ceiling.median;
}

Ceiling matrix_ceiling(const Precision& precision, std::int64_t n, int threads) {
  const std::string size = std::to_string(n);
  Ceiling ceiling{.kind = "matrix",
                  .what = size + " x " + size + " x " + size,
                  .precision = precision.name,
                  .unit = precision.unit};
  ceiling.why_not = why_not(precision.type);
  if (!ceiling.why_not.empty()) return ceiling;
  const ComputeScope scope(threads);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  Workbench bench(engine, threads);
  const Made made = make_matrix_product(engine, n, n, n, precision.type);
  ceiling.implementation = made.implementation;
  const std::size_t task = bench.add(matrix_task(made));
  bench.open(precision.content);
  const auto width = static_cast<double>(n);
  take(ceiling, 2e-9 * width * width * width, timed(bench, task, kSecondsEach));
  return ceiling;
}

struct Convolution {
  std::int64_t in, size, out, kernel, stride;
};
constexpr Convolution kConvolutions[] = {
    {64, 56, 64, 3, 1},   {128, 28, 128, 3, 1},  {256, 14, 256, 3, 1},  {256, 56, 64, 1, 1},
    {512, 28, 128, 1, 1}, {1024, 14, 256, 1, 1}, {1024, 14, 2048, 1, 2}};

std::vector<Made> convolutions(const dnnl::engine& engine, const Convolution& c) {
  const Tag blocked = blocked_pictures(channel_block());
  const std::int64_t out_size = (c.size - 1) / c.stride + 1, pad = c.kernel / 2;
  ConvolutionShape s;
  s.src = make_desc({kPictures, c.in, c.size, c.size}, blocked);
  s.dst = make_desc({kPictures, c.out, out_size, out_size}, blocked);
  s.weights = make_desc({c.out, c.in, c.kernel, c.kernel}, Tag::any);
  s.strides = {c.stride, c.stride};
  s.pad_before = s.pad_after = {pad, pad};
  return every_convolution(engine, s, ConvolutionPass::kForward);
}

Ceiling convolution_ceiling(const Convolution& c, int threads) {
  const std::int64_t out_size = (c.size - 1) / c.stride + 1;
  Ceiling ceiling{.kind = "convolution",
                  .what = std::to_string(c.in) + "x" + std::to_string(c.size) + "x" +
                          std::to_string(c.size) + " -> " + std::to_string(c.out) + " " +
                          std::to_string(c.kernel) + "x" + std::to_string(c.kernel) + "/" +
                          std::to_string(c.stride) + " batch " + std::to_string(kPictures),
                  .precision = "fp32",
                  .unit = "GFLOP/s"};
  const double gflop = 2e-9 * static_cast<double>(kPictures * c.in * c.out * out_size * out_size *
                                                  c.kernel * c.kernel);
  const ComputeScope scope(threads);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  Workbench bench(engine, threads);
  std::vector<std::string> names;
  for (const Made& made : convolutions(engine, c)) {
    bench.add(convolution_task(made, ConvolutionPass::kForward));
    names.push_back(made.implementation);
  }
  bench.open(Content::kFloats);
  for (std::size_t task = 0; task < names.size(); ++task) {
    Ceiling one = ceiling;
    take(one, gflop, timed(bench, task, 0.1));
    one.implementation = names[task];
    if (!ceiling.best || *one.best > *ceiling.best) ceiling = one;
  }
  return ceiling;
}

}  // namespace

std::vector<Ceiling> measure_ceilings(int threads) {
  threads = threads_of(threads);
  std::vector<Ceiling> all;
  for (const Precision& precision : kPrecisions) {
    for (const std::int64_t n : {std::int64_t{512}, std::int64_t{1024}, size_beyond_cache()})
      all.push_back(matrix_ceiling(precision, n, threads));
  }
  for (const Convolution& c : kConvolutions) all.push_back(convolution_ceiling(c, threads));
  return all;
}

std::optional<double> measure_matrix_peak(const std::string& precision, int threads,
                                          double seconds) {
  const auto* known = std::find_if(std::begin(kPrecisions), std::end(kPrecisions),
                                   [&](const Precision& p) { return precision == p.name; });
  if (known == std::end(kPrecisions) || !why_not(known->type).empty()) return std::nullopt;
  threads = threads_of(threads);
  const ComputeScope scope(threads);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const auto start = Clock::now();
  std::optional<double> best;
  // Small ones first: wide machines need large ones, narrow ones have no time for them.
  for (const std::int64_t n : {512, 1024, 1536, 2048, 3072, 4096}) {
    const auto width = static_cast<double>(n);
    const double gflop = 2e-9 * width * width * width;
    if (best && since(start) + 3 * gflop / *best > seconds) break;
    Workbench bench(engine, threads);
    const std::size_t task =
        bench.add(matrix_task(make_matrix_product(engine, n, n, n, known->type)));
    try {
      bench.open(known->content);
    } catch (const OutOfMemory&) {
      break;  // the sizes so far are what can be said
    }
    bench.seconds(task);
    const auto begun = Clock::now();
    for (int run = 0; run < 2 || (run < kMostRuns && since(begun) < seconds / 6); ++run) {
      const double rate = gflop / bench.seconds(task);
      best = std::max(best.value_or(rate), rate);
    }
  }
  return best;
}

}  // namespace rackmark::worker::onednn
