// Vectorised loops of the exchange: rounding to and from 16 bits, sums, a server's SGD step. One
// table per instruction set, chosen at run time. No kernel allocates, throws, or starts threads.
#pragma once

#include <cstdint>

namespace rackmark::worker {

// To 16 bits: round to nearest, ties to even, whatever the thread's rounding mode is. What is too
// large becomes infinity (fp16: from 65520), NaN stays a (quiet) NaN, subnormal fp16 results are
// exact; fp32 subnormals may become zero. From 16 bits: exact.
struct ExchangeKernels {
  const char* isa;
  void (*to_bf16)(const float* from, std::uint16_t* to, std::int64_t count);
  void (*from_bf16)(const std::uint16_t* from, float* to, std::int64_t count);
  void (*add_bf16)(const std::uint16_t* from, float* into, std::int64_t count);
  void (*to_fp16)(const float* from, std::uint16_t* to, std::int64_t count);
  void (*from_fp16)(const std::uint16_t* from, float* to, std::int64_t count);
  void (*add_fp16)(const std::uint16_t* from, float* into, std::int64_t count);
  void (*add)(const float* from, float* into, std::int64_t count);
  void (*scale)(float* values, float factor, std::int64_t count);
  // One step of worker/backend/sgd_loop.hpp.
  void (*sgd)(float* weights, const float* gradients, float* velocity, std::int64_t count,
              float rate, float momentum, float decay);
};

const ExchangeKernels& exchange_kernels();  // the best of this host

// The tables themselves, for tests; null where this host cannot run them.
const ExchangeKernels* baseline_exchange_kernels();
const ExchangeKernels* avx2_exchange_kernels();
const ExchangeKernels* avx512_exchange_kernels();

}  // namespace rackmark::worker
