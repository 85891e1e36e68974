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

const Kernels* avx2_kernels(int block, Storage storage) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
             ? avx2_table(block, storage)
             : nullptr;
}
const Kernels* avx512_kernels(int block, Storage storage) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
             ? avx512_table(block, storage)
             : nullptr;
}
bool has_weight_gradient() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
bool has_winograd_kernels() { return has_weight_gradient(); }
#else
bool has_winograd_kernels() { return false; }
void winograd_source(const float*, const WinogradTile&, float*, std::int64_t) {}
void winograd_result(const float*, std::int64_t, const WinogradEnd&, float*, const WinogradTile&) {}
void winograd_gradient(const float*, const WinogradTile&, float*, std::int64_t) {}
void winograd_weights(const float*, bool, float*, std::int64_t, std::int64_t) {}
void winograd_weight_gradient(const float*, std::int64_t, std::int64_t, float*) {}
void winograd_multiply(const WinogradProduct&) {}
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
