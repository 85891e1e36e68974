#include "worker/backend/onednn/kernels/kernels.hpp"

namespace rackmark::worker::onednn {

const Kernels* baseline_table(int block);
const Kernels* baseline_kernels(int block) { return baseline_table(block); }

#if defined(__x86_64__)
const Kernels* avx2_table(int block);
const Kernels* avx512_table(int block);

const Kernels* avx2_kernels(int block) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2_table(block)
                                                                         : nullptr;
}
const Kernels* avx512_kernels(int block) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
             ? avx512_table(block)
             : nullptr;
}
#else
const Kernels* avx2_kernels(int) { return nullptr; }
const Kernels* avx512_kernels(int) { return nullptr; }
#endif

const Kernels& kernels(int block) {
  if (const Kernels* best = avx512_kernels(block)) return *best;
  if (const Kernels* best = avx2_kernels(block)) return *best;
  return *baseline_kernels(block);
}

}  // namespace rackmark::worker::onednn
