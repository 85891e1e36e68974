// The same tests on a GPU: every kernel is launched and waited for, and all memory from `new` lies
// in one block that the GPU can read and write as well.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include "tests/worker/cuda/tested_kernels.hpp"

namespace {

// Nothing is given back: the tests take a few hundred megabytes in all.
constexpr std::size_t kArenaBytes = std::size_t{4} << 30;

std::byte* arena() {
  static auto* const kArena =
      static_cast<std::byte*>(mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return kArena;
}

std::atomic<std::size_t> used{0};

}  // namespace

void* operator new(std::size_t bytes) {
  const std::size_t at = used.fetch_add((bytes + 255) / 256 * 256);
  if (at + bytes > kArenaBytes) std::abort();
  return arena() + at;
}
void operator delete(void*) noexcept {}
void operator delete(void*, std::size_t) noexcept {}

namespace rackmark::worker::cuda::testing {
namespace {

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA: ") + call + ": " + cudaGetErrorName(error));
}

template <Type kType, class Arguments, Kernel<Arguments> Kernels::*kMember>
void launch_and_wait(Queue queue, const Arguments& arguments) {
  (device_kernels(kType).*kMember)(queue, arguments);
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

template <Type kType>
struct Waiting {
  template <class Arguments>
  struct Of {
    template <Kernel<Arguments> Kernels::*kMember>
    static void set(Kernels& table) {
      table.*kMember = launch_and_wait<kType, Arguments, kMember>;
    }
  };
};

template <Type kType>
Kernels waiting_kernels() {
  Kernels table{};
#define RM_WAIT(Arguments, member) \
  Waiting<kType>::template Of<Arguments>::template set<&Kernels::member>(table)
  RM_WAIT(LoadPictures, load_pictures);
  RM_WAIT(LoadRawPictures, load_raw_pictures);
  RM_WAIT(NormSums, norm_sums);
  RM_WAIT(NormStatistics, norm_statistics);
  RM_WAIT(NormFromRunning, norm_from_running);
  RM_WAIT(NormApply, norm_apply);
  RM_WAIT(NormBackwardSums, norm_backward_sums);
  RM_WAIT(NormBackwardStatistics, norm_backward_statistics);
  RM_WAIT(NormBackwardApply, norm_backward_apply);
  RM_WAIT(Rectify, rectify);
  RM_WAIT(RectifyBackward, rectify_backward);
  RM_WAIT(Sum, sum);
  RM_WAIT(Copy, copy);
  RM_WAIT(AddBias, add_bias);
  RM_WAIT(BiasSums, bias_sums);
  RM_WAIT(BiasGradient, bias_gradient);
  RM_WAIT(Dropout, dropout);
  RM_WAIT(MaxPool, max_pool);
  RM_WAIT(MaxPoolBackward, max_pool_backward);
  RM_WAIT(AveragePool, average_pool);
  RM_WAIT(AveragePoolBackward, average_pool_backward);
  RM_WAIT(NormMaxPool, norm_max_pool);
  RM_WAIT(NormMaxPoolBackwardSums, norm_max_pool_backward_sums);
  RM_WAIT(NormMaxPoolBackwardApply, norm_max_pool_backward_apply);
  RM_WAIT(ResponseNorm, response_norm);
  RM_WAIT(ResponseNormBackward, response_norm_backward);
  RM_WAIT(CrossEntropy, cross_entropy);
  RM_WAIT(LossSum, loss_sum);
  RM_WAIT(Unscale, unscale);
  RM_WAIT(FindOverflow, find_overflow);
  RM_WAIT(Sgd, sgd);
  RM_WAIT(AdjustScale, adjust_scale);
  RM_WAIT(Narrow, narrow);
  RM_WAIT(Widen, widen);
  RM_WAIT(ToIntegers, to_integers);
#undef RM_WAIT
  return table;
}

// Those that integers have.
Kernels waiting_integer_kernels() {
  using Integers = Waiting<Type::kInteger>;
  Kernels table{};
  Integers::Of<LoadPictures>::set<&Kernels::load_pictures>(table);
  Integers::Of<LoadRawPictures>::set<&Kernels::load_raw_pictures>(table);
  Integers::Of<Copy>::set<&Kernels::copy>(table);
  Integers::Of<MaxPool>::set<&Kernels::max_pool>(table);
  Integers::Of<AveragePool>::set<&Kernels::average_pool>(table);
  Integers::Of<Narrow>::set<&Kernels::narrow>(table);
  Integers::Of<Widen>::set<&Kernels::widen>(table);
  return table;
}

}  // namespace

const Kernels& tested_kernels(Type type) {
  static const bool kRegistered = [] {
    check(cudaHostRegister(arena(), kArenaBytes, cudaHostRegisterMapped), "cudaHostRegister");
    return true;
  }();
  static_cast<void>(kRegistered);
  static const std::array kTables{waiting_kernels<Type::kFloat>(), waiting_kernels<Type::kHalf>(),
                                  waiting_kernels<Type::kBfloat>(), waiting_integer_kernels()};
  return kTables[static_cast<std::size_t>(type)];
}

}  // namespace rackmark::worker::cuda::testing
