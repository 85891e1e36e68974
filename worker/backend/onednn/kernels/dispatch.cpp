#include "worker/backend/onednn/kernels/direct.hpp"
#include "worker/backend/onednn/kernels/kernels.hpp"
#include "worker/backend/onednn/kernels/weight_gradient.hpp"
#include "worker/backend/onednn/kernels/winograd.hpp"

namespace rackmark::worker::onednn {

const Kernels* baseline_table(int block, Storage storage);
const Kernels* baseline_kernels(int block, Storage storage) {
  return baseline_table(block, storage);
}

#if defined(__x86_64__)
const Kernels* avx2_table(int block, Storage storage);
const Kernels* avx512_table(int block, Storage storage);

extern const WinogradKernels avx2_winograd, avx512_winograd;

namespace {

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

const Kernels* avx2_kernels(int block, Storage storage) {
  return has_avx2() ? avx2_table(block, storage) : nullptr;
}
const Kernels* avx512_kernels(int block, Storage storage) {
  return has_avx512() ? avx512_table(block, storage) : nullptr;
}
bool has_direct_kernel() { return has_avx512(); }
bool has_weight_gradient() { return has_avx2(); }
const WinogradKernels* winograd_kernels(int block) {
  if (block == avx2_winograd.block && has_avx2()) return &avx2_winograd;
  if (block == avx512_winograd.block && has_avx512()) return &avx512_winograd;
  return nullptr;
}
#else
const WinogradKernels* winograd_kernels(int) { return nullptr; }
bool has_direct_kernel() { return false; }
void direct_row(const DirectRow&) {}
bool has_weight_gradient() { return false; }
void add_weight_gradient(const WeightGradientTask&) {}
const Kernels* avx2_kernels(int, Storage) { return nullptr; }
const Kernels* avx512_kernels(int, Storage) { return nullptr; }
#endif

const Kernels& kernels(int block, Storage storage) {
  if (const Kernels* best = avx512_kernels(block, storage)) return *best;
  if (const Kernels* best = avx2_kernels(block, storage)) return *best;
  return *baseline_kernels(block, storage);
}

}  // namespace rackmark::worker::onednn
