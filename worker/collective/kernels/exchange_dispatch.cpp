#include "worker/collective/kernels/exchange_kernels.hpp"

namespace rackmark::worker {

const ExchangeKernels* baseline_exchange_table();
const ExchangeKernels* baseline_exchange_kernels() { return baseline_exchange_table(); }

#if defined(__x86_64__)
const ExchangeKernels* avx2_exchange_table();
const ExchangeKernels* avx512_exchange_table();

const ExchangeKernels* avx2_exchange_kernels() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                 __builtin_cpu_supports("f16c")
             ? avx2_exchange_table()
             : nullptr;
}
const ExchangeKernels* avx512_exchange_kernels() {
  return avx2_exchange_kernels() != nullptr && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl")
             ? avx512_exchange_table()
             : nullptr;
}
#else
const ExchangeKernels* avx2_exchange_kernels() { return nullptr; }
const ExchangeKernels* avx512_exchange_kernels() { return nullptr; }
#endif

const ExchangeKernels& exchange_kernels() {
  if (const ExchangeKernels* best = avx512_exchange_kernels()) return *best;
  if (const ExchangeKernels* best = avx2_exchange_kernels()) return *best;
  return *baseline_exchange_kernels();
}

}  // namespace rackmark::worker
