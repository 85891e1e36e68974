// How much memory each of the own kernels moves a second, at the shapes of ResNet-50 with 256
// pictures; for a machine with a GPU, by hand:
//   rackmark-kernels-speed [half|bfloat|float]
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "worker/backend/cuda/kernels/kernels.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker::cuda {
namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Zeroed; lives as long as the process.
template <class T = void>
T* allocate(std::int64_t bytes) {
  void* at = nullptr;
  check(cudaMalloc(&at, static_cast<std::size_t>(bytes)));
  check(cudaMemset(at, 0, static_cast<std::size_t>(bytes)));
  return static_cast<T*>(at);
}

// Values of random sign between 1 and 2: zeros would let a GPU clock higher than pictures do.
void fill(void* to, std::int64_t bytes, Type type) {
  constexpr std::uint32_t kFloat = 0x3f800000, kHalves = 0x3c003c00, kBfloats = 0x3f803f80;
  const std::uint32_t exponents = type == Type::kFloat  ? kFloat
                                  : type == Type::kHalf ? kHalves
                                                        : kBfloats;
  const std::uint32_t drawn = type == Type::kFloat  ? 0x807fffff
                              : type == Type::kHalf ? 0x83ff83ff
                                                    : 0x807f807f;
  std::mt19937 random(1);
  std::vector<std::uint32_t> values(4 << 20);
  for (auto& value : values) value = exponents | (static_cast<std::uint32_t>(random()) & drawn);
  const auto block = static_cast<std::int64_t>(values.size() * 4);
  for (std::int64_t at = 0; at < bytes; at += block) {
    check(cudaMemcpy(static_cast<std::byte*>(to) + at, values.data(),
                     static_cast<std::size_t>(std::min(block, bytes - at)), cudaMemcpyDefault));
  }
}

class Stopwatch {
 public:
  Stopwatch() {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }
  // `bytes` are those that the kernel must read and write, each once.
  void measure(const std::string& name, double bytes, const std::function<void()>& launch) {
    constexpr int kWarmUp = 3, kRuns = 20;
    for (int i = 0; i < kWarmUp; ++i) launch();
    check(cudaEventRecord(begin_, nullptr));
    for (int i = 0; i < kRuns; ++i) launch();
    check(cudaEventRecord(end_, nullptr));
    check(cudaEventSynchronize(end_));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_));
    const double us = ms * 1e3 / kRuns;
    std::printf("%-44s %9.1f us %8.0f GB/s\n", name.c_str(), us, bytes / us * 1e-3);
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

struct Speeds {
  explicit Speeds(Type of) : type(of), kernels(device_kernels(of)) {
    constexpr std::int64_t kLargest = 3211264LL * 64 * 4;
    for (void*& buffer : buffers) fill(buffer = allocate(kLargest), kLargest, type);
    mask = allocate<std::uint8_t>(kLargest / 8);
    partial = allocate<float>(64 << 20);
    fill(partial, 64 << 20, Type::kFloat);
    arrays = allocate<float>(4096 * 12 * 4);
    fill(arrays, 4096 * 12 * 4, Type::kFloat);
    labels = allocate<std::int32_t>(256 * 4);
    state = allocate<StepState>(sizeof(StepState));
  }

  Matrix matrix(int which, std::int64_t rows, int channels) const {
    return {buffers[which], rows, channels, channels};
  }
  float* array(int which) const { return arrays + which * 4096; }

  void norms(std::int64_t rows, int channels) {
    const Matrix x = matrix(0, rows, channels), y = matrix(1, rows, channels);
    const Matrix residual = matrix(2, rows, channels);
    const double size = static_cast<double>(rows) * channels * static_cast<double>(width(type));
    const double bits = static_cast<double>(mask_bytes(rows, channels));
    const double sums = 8.0 * sum_blocks(rows, channels) * channels;
    const std::string at = " " + std::to_string(rows) + " x " + std::to_string(channels);
    watch.measure("norm_sums" + at, size, [&] { kernels.norm_sums(nullptr, {x, partial}); });
    watch.measure("norm_statistics" + at, sums, [&] {
      kernels.norm_statistics(nullptr, {partial, false, x, array(0), array(1), array(2), array(3),
                                        0.1, 1e-5, array(4), array(5), array(6), array(7)});
    });
    NormApply apply{.x = x, .y = y, .scale = array(6), .shift = array(7)};
    apply.relu = true, apply.mask = mask;
    watch.measure("norm_apply, relu" + at, 2 * size + bits,
                  [&] { kernels.norm_apply(nullptr, apply); });
    // As in a step: right after whoever wrote x. What the cache still has shows against the parts.
    watch.measure("copy" + at, 2 * size, [&] { kernels.copy(nullptr, {residual, x}); });
    watch.measure("copy, norm_sums, norm_apply" + at, 5 * size + bits, [&] {
      kernels.copy(nullptr, {residual, x});
      kernels.norm_sums(nullptr, {x, partial});
      kernels.norm_apply(nullptr, apply);
    });
    apply.residual = residual;
    watch.measure("norm_apply, residual, relu" + at, 3 * size + bits,
                  [&] { kernels.norm_apply(nullptr, apply); });
    NormBackwardSums sum{.dy = y, .x = x, .mask = mask, .mean = array(4), .partial = partial};
    watch.measure("norm_backward_sums" + at, 2 * size + bits,
                  [&] { kernels.norm_backward_sums(nullptr, sum); });
    sum.masked = y;
    watch.measure("norm_backward_sums, masked" + at, 3 * size + bits,
                  [&] { kernels.norm_backward_sums(nullptr, sum); });
    sum.residual_x = residual, sum.residual_mean = array(4);
    watch.measure("norm_backward_sums, two norms" + at, 4 * size + bits,
                  [&] { kernels.norm_backward_sums(nullptr, sum); });
    watch.measure("norm_backward_statistics" + at, sums, [&] {
      kernels.norm_backward_statistics(
          nullptr, {partial, 2, 1, rows, channels, array(0), array(5), array(8), array(9),
                    array(10), array(11), array(3)});
    });
    watch.measure("norm_backward_apply" + at, 3 * size + bits, [&] {
      kernels.norm_backward_apply(nullptr,
                                  {y, x, residual, mask, array(4), array(10), array(11), array(3)});
    });
    watch.measure("copy, added" + at, 3 * size, [&] { kernels.copy(nullptr, {x, y, 1, true}); });
  }

  void pools() {
    const Picture x{matrix(0, 256LL * 112 * 112, 64), 256, 112, 112};
    const Picture y{matrix(1, 256LL * 56 * 56, 64), 256, 56, 56};
    const Windows windows{3, 2, 1};
    const double small = 256.0 * 56 * 56 * 64, value = static_cast<double>(width(type));
    watch.measure("max_pool 112 to 56", small * (5 * value + 1), [&] {
      kernels.max_pool(nullptr, {x, y, windows, mask});
    });
    watch.measure("max_pool_backward 112 to 56", small * (5 * value + 1), [&] {
      kernels.max_pool_backward(nullptr, {y, x, windows, mask, false});
    });
    // Their bytes: x once more where the pool takes part in a batch norm, nothing of its size
    // beside it.
    const double large = 4 * small * value, pooled = small * (value + 1);
    watch.measure("norm_max_pool 112 to 56", large + pooled, [&] {
      kernels.norm_max_pool(nullptr, {x, y, windows, array(6), array(7), mask});
    });
    watch.measure("norm_max_pool_backward_sums 112 to 56", large + pooled, [&] {
      kernels.norm_max_pool_backward_sums(nullptr, {y, x, windows, mask, array(4), partial});
    });
    const Picture dx{matrix(2, 256LL * 112 * 112, 64), 256, 112, 112};
    watch.measure("norm_max_pool_backward_apply 112 to 56", 2 * large + pooled, [&] {
      kernels.norm_max_pool_backward_apply(
          nullptr, {y, x, dx, windows, mask, array(4), array(10), array(11), array(3)});
    });
    const Picture wide{matrix(0, 256LL * 35 * 35, 288), 256, 35, 35};
    const Picture out{matrix(1, 256LL * 35 * 35, 288), 256, 35, 35};
    const double inception = 256.0 * 35 * 35 * 288 * value;
    watch.measure("average_pool 3x3, 35 x 35 x 288", 2 * inception, [&] {
      kernels.average_pool(nullptr, {wide, out, {3, 1, 1}});
    });
    watch.measure("average_pool_backward 3x3, 35 x 35 x 288", 2 * inception, [&] {
      kernels.average_pool_backward(nullptr, {out, wide, {3, 1, 1}, false});
    });
    const Matrix lrn_x = matrix(0, 256LL * 56 * 56, 192), lrn_y = matrix(1, 256LL * 56 * 56, 192);
    const Matrix lrn_dx = matrix(2, 256LL * 56 * 56, 192);
    const double response = 256.0 * 56 * 56 * 192 * value;
    watch.measure("response_norm 56 x 56 x 192", 2 * response, [&] {
      kernels.response_norm(nullptr, {lrn_x, lrn_y});
    });
    watch.measure("response_norm_backward 56 x 56 x 192", 3 * response, [&] {
      kernels.response_norm_backward(nullptr, {lrn_y, lrn_x, lrn_dx});
    });
  }

  void rest() {
    constexpr std::int64_t kParameters = 25557032, kPixels = 256LL * 224 * 224;
    auto* const weights = static_cast<float*>(buffers[0]);
    auto* const velocities = static_cast<float*>(buffers[1]);
    auto* const gradients = static_cast<float*>(buffers[2]);
    const double floats = 4.0 * kParameters;
    watch.measure("sgd 25.6 M", 5 * floats + static_cast<double>(kParameters * width(type)), [&] {
      kernels.sgd(nullptr, {weights, velocities, gradients, buffers[3], kParameters, state});
    });
    watch.measure("find_overflow 25.6 M", floats, [&] {
      kernels.find_overflow(nullptr, {gradients, kParameters, state});
    });
    watch.measure("unscale 25.6 M", 2 * floats, [&] {
      kernels.unscale(nullptr, {gradients, kParameters, state});
    });
    const Picture picture{matrix(1, kPixels, 8), 256, 224, 224};
    watch.measure("load_pictures 3 to 8 channels",
                  static_cast<double>(kPixels * (12 + 8 * width(type))), [&] {
                    kernels.load_pictures(nullptr, {weights, 3, picture});
                  });
    const auto* const pixels = static_cast<const std::uint8_t*>(buffers[0]);
    const auto* const windows = static_cast<const PictureWindow*>(buffers[2]);  // zeros
    check(cudaMemset(buffers[2], 0, 256 * sizeof(PictureWindow)));
    watch.measure("load_raw_pictures 3 to 8 channels",
                  static_cast<double>(kPixels * (3 + 8 * width(type))), [&] {
                    kernels.load_raw_pictures(nullptr, {pixels, windows, 256, picture});
                  });
    CrossEntropy loss{LossForm::kSoftmax, weights, 256, 1000, labels, 1, state};
    loss.d_logits = matrix(1, 256, 1000), loss.row_loss = gradients;
    watch.measure("cross_entropy 256 x 1000", 256e3 * static_cast<double>(4 + width(type)),
                  [&] { kernels.cross_entropy(nullptr, loss); });
  }

  Type type;
  const Kernels& kernels;
  Stopwatch watch;
  void* buffers[4];
  std::uint8_t* mask;
  float *partial, *arrays;
  std::int32_t* labels;
  StepState* state;
};

int run(const std::string& name) {
  const Type type = name == "float" ? Type::kFloat : name == "bfloat" ? Type::kBfloat : Type::kHalf;
  Speeds speeds(type);
  const std::int64_t pixels = 256LL * 112 * 112;
  speeds.norms(pixels, 64);
  speeds.norms(pixels / 4, 64);
  speeds.norms(pixels / 4, 256);
  speeds.norms(pixels / 16, 512);
  speeds.norms(pixels / 64, 1024);
  speeds.norms(pixels / 256, 512);
  speeds.norms(pixels / 256, 2048);
  speeds.pools();
  speeds.rest();
  return 0;
}

}  // namespace
}  // namespace rackmark::worker::cuda

int main(int argc, char** argv) try {
  return rackmark::worker::cuda::run(argc > 1 ? argv[1] : "half");
} catch (const std::exception& e) {
  std::fprintf(stderr, "rackmark-kernels-speed: %s\n", e.what());
  return 1;
}
