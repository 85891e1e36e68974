#include "worker/roofline/memory.hpp"

#include <pthread.h>
#include <sched.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "worker/backend/caches.hpp"
#include "worker/backend/memory_limit.hpp"

namespace rackmark::worker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMiB = 1 << 20;
constexpr int kRuns = 7;
constexpr std::int64_t kLane = 128;  // floats; all counts are multiples

#if defined(__x86_64__)
#define RACKMARK_BEST_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define RACKMARK_BEST_ISA
#endif

// Sixteen floats: a register with AVX-512, two with AVX2. Eight sums of them, so that adding does
// not bound what loading can do; spelled out, as g++ 12 adds one float at a time for AVX-512
// otherwise.
typedef float Sixteen __attribute__((vector_size(64), may_alias));
constexpr std::int64_t kSums = kLane / 16;

RACKMARK_BEST_ISA float read_all(const float* values, std::int64_t count, std::int64_t times) {
  Sixteen sums[kSums] = {};
  for (std::int64_t turn = 0; turn < times; ++turn) {
    for (std::int64_t i = 0; i < count; i += kLane) {
      const auto* lane = reinterpret_cast<const Sixteen*>(values + i);
#pragma GCC unroll 8
      for (std::int64_t part = 0; part < kSums; ++part) sums[part] += lane[part];
    }
  }
  Sixteen all{};
  for (const Sixteen& part : sums) all += part;
  float sum = 0;
  for (int i = 0; i < 16; ++i) sum += all[i];
  return sum;
}

#if defined(__SSE2__)
void copy(const float* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 4) _mm_stream_ps(to + i, _mm_load_ps(from + i));
  _mm_sfence();
}
void triad(const float* b, const float* c, float* a, std::int64_t count) {
  const __m128 factor = _mm_set1_ps(3.0F);
  for (std::int64_t i = 0; i < count; i += 4) {
    _mm_stream_ps(a + i, _mm_add_ps(_mm_load_ps(b + i), _mm_mul_ps(factor, _mm_load_ps(c + i))));
  }
  _mm_sfence();
}
constexpr const char* kStores = "streaming stores";
#else
void copy(const float* from, float* to, std::int64_t count) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}
void triad(const float* b, const float* c, float* a, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) a[i] = b[i] + 3.0F * c[i];
}
constexpr const char* kStores = "ordinary stores";
#endif

struct FreeDeleter {
  void operator()(float* memory) const { std::free(memory); }
};
using Floats = std::unique_ptr<float[], FreeDeleter>;

Floats allocate(std::int64_t count) {
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  return Floats(static_cast<float*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)));
}

// Between 0.5 and 1.5: neither zero nor denormal, and a sum of many stays a number.
void fill(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    values[i] = 0.5F + static_cast<float>((i * 2654435761U) & 0xFFFF) / 65536.0F;
}

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);  // only better when it works
}

// work(thread) on every thread at once; prepare(thread) before, on the thread that will use it.
// Seconds of each run, sorted; the first run is not counted.
std::vector<double> timed(const std::vector<int>& cpus,
                          const std::function<void(std::size_t)>& prepare,
                          const std::function<void(std::size_t)>& work) {
  std::barrier gate(static_cast<std::ptrdiff_t>(cpus.size()));
  std::vector<double> seconds;
  const auto run = [&](std::size_t thread) {
    pin(cpus[thread]);
    prepare(thread);
    for (int turn = 0; turn <= kRuns; ++turn) {
      gate.arrive_and_wait();
      const auto start = Clock::now();
      work(thread);
      gate.arrive_and_wait();
      const std::chrono::duration<double> took = Clock::now() - start;
      if (thread == 0 && turn > 0) seconds.push_back(took.count());
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < cpus.size(); ++thread) threads.emplace_back(run, thread);
  for (std::thread& thread : threads) thread.join();
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

Ceiling rate(Ceiling ceiling, double gigabytes, const std::vector<double>& seconds) {
  ceiling.unit = "GB/s";
  ceiling.runs = static_cast<std::int64_t>(seconds.size());
  ceiling.best = gigabytes / seconds.front();
  ceiling.median = gigabytes / seconds[seconds.size() / 2];
  ceiling.spread = (*ceiling.best - gigabytes / seconds.back()) / *ceiling.median;
  return ceiling;
}

// Bytes of each of three arrays; 0 where there is no room.
std::int64_t array_bytes() {
  const std::int64_t wanted = std::max(4 * last_level_cache_bytes(), 64 * kMiB);
  const std::int64_t room = memory_limit().free_bytes / 6;
  return std::min(wanted, room) / kMiB * kMiB;
}

std::vector<Ceiling> beyond_cache(const std::vector<int>& cpus) {
  const std::int64_t bytes = array_bytes();
  const std::string size = std::to_string(bytes / kMiB) + " MiB an array";
  Ceiling copying{.kind = "memory", .what = "copy, " + size, .implementation = kStores};
  Ceiling adding{.kind = "memory", .what = "triad, " + size, .implementation = kStores};
  if (bytes < 2 * last_level_cache_bytes()) {
    copying.unit = adding.unit = "GB/s";
    copying.why_not = adding.why_not = "too little memory is free for arrays beyond the cache";
    return {copying, adding};
  }
  const auto threads = static_cast<std::int64_t>(cpus.size());
  const std::int64_t part = bytes / std::int64_t{sizeof(float)} / threads / kLane * kLane;
  struct Part {
    Floats a, b, c;
  };
  std::vector<Part> parts(cpus.size());
  const auto prepare = [&](std::size_t thread) {  // first touch where it is used
    Part& p = parts[thread];
    if (p.a) return;
    for (Floats* array : {&p.a, &p.b, &p.c}) {
      *array = allocate(part);
      fill(array->get(), part);
    }
  };
  const double gigabytes = 4e-9 * static_cast<double>(part * threads);
  std::vector<Ceiling> out;
  out.push_back(rate(copying, 2 * gigabytes, timed(cpus, prepare, [&](std::size_t thread) {
                       copy(parts[thread].b.get(), parts[thread].a.get(), part);
                     })));
  out.push_back(rate(adding, 3 * gigabytes, timed(cpus, prepare, [&](std::size_t thread) {
                       triad(parts[thread].b.get(), parts[thread].c.get(), parts[thread].a.get(),
                             part);
                     })));
  return out;
}

Ceiling within_cache(const std::vector<int>& cpus, const char* level, std::int64_t bytes_each) {
  Ceiling ceiling{.kind = "cache",
                  .what = std::string("read ") + level + ", " + std::to_string(bytes_each / 1024) +
                          " KiB a thread",
                  .implementation = "vector loads"};
  const std::int64_t count = bytes_each / std::int64_t{sizeof(float)} / kLane * kLane;
  const std::int64_t times = std::max<std::int64_t>(1, 96 * kMiB / bytes_each);
  std::vector<Floats> parts(cpus.size());
  std::vector<float> sums(cpus.size() * 32);  // a cache line each
  const auto prepare = [&](std::size_t thread) {
    parts[thread] = allocate(count);
    fill(parts[thread].get(), count);
  };
  const auto seconds = timed(cpus, prepare, [&](std::size_t thread) {
    sums[thread * 32] += read_all(parts[thread].get(), count, times);
  });
  return rate(ceiling, 4e-9 * static_cast<double>(count * times) * static_cast<double>(cpus.size()),
              seconds);
}

}  // namespace

std::vector<Ceiling> measure_memory(const std::vector<int>& cpus) {
  std::vector<Ceiling> all = beyond_cache(cpus);
  const Cache level1 = cache_of_level(1), level2 = cache_of_level(2), level3 = cache_of_level(3);
  if (level1.bytes > 0) all.push_back(within_cache(cpus, "level 1", level1.bytes / 2));
  if (level2.bytes > 0) all.push_back(within_cache(cpus, "level 2", level2.bytes / 2));
  // One instance may be shared by many threads; a part below level 2 would not measure level 3.
  const std::int64_t part = level3.total() / 2 / static_cast<std::int64_t>(cpus.size());
  if (part > level2.bytes) all.push_back(within_cache(cpus, "level 3", part));
  return all;
}

}  // namespace rackmark::worker
