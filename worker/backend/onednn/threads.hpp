// Threads of a plan: how many, and how they round.
#pragma once

#include <omp.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <cstdint>

namespace rackmark::worker::onednn {

// While one lives, the calling thread's parallel regions have `threads` threads, and these threads
// flush denormal results to zero and read denormals as zero: a single one of them can slow a
// kernel by a factor of five. When it ends, the number of threads is what it was, and all of these
// threads treat denormals as the calling thread did before (it may be one that always flushes).
class ComputeScope {
 public:
  explicit ComputeScope(int threads)
      : threads_before_(omp_get_max_threads()), flush_before_(flush_bits()) {
    omp_set_num_threads(threads);
    set_flush_bits(kFlushBits);
  }
  ~ComputeScope() {
    set_flush_bits(flush_before_);
    omp_set_num_threads(threads_before_);
  }
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;

 private:
  static constexpr unsigned kFlushBits = 0x8040;  // of MXCSR: results, operands
#if defined(__SSE2__)
  static unsigned flush_bits() { return _mm_getcsr() & kFlushBits; }
  static void set_flush_bits(unsigned bits) {
#pragma omp parallel
    _mm_setcsr((_mm_getcsr() & ~kFlushBits) | bits);
  }
#else
  static unsigned flush_bits() { return 0; }
  static void set_flush_bits(unsigned) {}
#endif
  int threads_before_;
  unsigned flush_before_;
};

// Runs body(first, last) on about equal parts of [0, count), the same parts for the same number of
// threads. Parts begin at multiples of 16, so that threads do not share cache lines of float
// arrays.
template <class Body>
void parallel_ranges(std::int64_t count, const Body& body) {
#pragma omp parallel
  {
    const std::int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
    const std::int64_t step = (count / threads + 16) / 16 * 16;
    const std::int64_t first = me * step, last = first + step < count ? first + step : count;
    if (first < last) body(first, last);
  }
}

}  // namespace rackmark::worker::onednn
