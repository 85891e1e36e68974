// Stored values of 16 and 8 bits and their conversions: to float exactly, from float to the
// nearest, of two equally near ones to the even. In 16 bits NaN stays NaN, what is too large
// becomes infinity.
#pragma once

#include <cmath>
#include <cstdint>

#include "worker/backend/cuda/kernels/portable.hpp"

namespace rackmark::worker::cuda::bodies {

struct Half {  // IEEE binary16
  std::uint16_t bits;
};
struct Bfloat {  // the upper half of a float
  std::uint16_t bits;
};

struct Integer {  // of 8 bits
  std::int8_t value;
};

#ifdef __CUDACC__

RM_DEVICE std::uint32_t bits_of(float x) { return __float_as_uint(x); }
RM_DEVICE float float_of(std::uint32_t bits) { return __uint_as_float(bits); }

// In PTX rather than by cuda_fp16.h, which takes nvcc a second a file.
RM_DEVICE float to_float(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
RM_DEVICE std::uint16_t half_bits(float x) {
  std::uint16_t y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

#else

inline std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }
inline float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline float to_float(Half x) {
  const std::uint32_t sign = (x.bits & 0x8000U) << 16, mantissa = x.bits & 0x3FFU;
  const std::uint32_t exponent = (x.bits >> 10) & 0x1FU;
  if (exponent == 0x1F) return float_of(sign | 0x7F800000U | mantissa << 13);
  if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;  // zero or denormal
  return sign != 0 ? -magnitude : magnitude;
}
inline std::uint16_t half_bits(float x) {
  const std::uint32_t sign = bits_of(x) >> 16 & 0x8000U, u = bits_of(x) & 0x7FFFFFFFU;
  std::uint32_t magnitude = 0;
  if (u > 0x7F800000U) {  // NaN; rounding could make infinity of it
    magnitude = 0x7E00U | (u >> 13 & 0x1FFU);
  } else if (u >= 0x477FF000U) {  // 65520, half way from the largest to the next power of two
    magnitude = 0x7C00U;
  } else if (u < 0x38800000U) {  // a denormal half: its unit is that of the floats from 0.5 on
    magnitude = bits_of(float_of(u) + 0.5F) - 0x3F000000U;
  } else {
    magnitude = (u - (112U << 23) + 0xFFFU + (u >> 13 & 1U)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | magnitude);
}

#endif

RM_DEVICE float to_float(Integer x) { return static_cast<float>(x.value); }
RM_DEVICE float to_float(float x) { return x; }
RM_DEVICE float to_float(Bfloat x) { return float_of(static_cast<std::uint32_t>(x.bits) << 16); }

RM_DEVICE std::uint16_t bfloat_bits(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  std::uint16_t y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
#else
  const std::uint32_t u = bits_of(x);
  const std::uint32_t rounded = (u + 0x7FFFU + (u >> 16 & 1U)) >> 16;
  const bool nan = (u & 0x7FFFFFFFU) > 0x7F800000U;  // rounding could make infinity or 0 of it
  return static_cast<std::uint16_t>(nan ? u >> 16 | 0x40U : rounded);
#endif
}

// The lower 8 bits are the integer. NaN, for which there is none, becomes the least.
RM_DEVICE int integer_of(float x) {
  const float within = x > -128.0F ? (x < 127.0F ? x : 127.0F) : -128.0F;
#ifdef __CUDACC__
  return __float2int_rn(within);
#else
  return static_cast<int>(std::nearbyint(within));
#endif
}

RM_DEVICE void put(float& to, float x) { to = x; }
RM_DEVICE void put(Integer& to, float x) { to.value = static_cast<std::int8_t>(integer_of(x)); }
RM_DEVICE void put(Half& to, float x) { to.bits = half_bits(x); }
RM_DEVICE void put(Bfloat& to, float x) { to.bits = bfloat_bits(x); }

// Two neighbours in memory as one word, `low` at the lower address.
template <class T>
RM_DEVICE std::uint32_t pair(float low, float high);
template <>
RM_DEVICE std::uint32_t pair<Half>(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
#else
  return half_bits(low) | static_cast<std::uint32_t>(half_bits(high)) << 16;
#endif
}
template <>
RM_DEVICE std::uint32_t pair<Bfloat>(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
#else
  return bfloat_bits(low) | static_cast<std::uint32_t>(bfloat_bits(high)) << 16;
#endif
}

// x * factor + summand, rounded twice as the host does: nvcc would round once.
RM_DEVICE float product_and_sum(float x, float factor, float summand) {
#ifdef __CUDACC__
  return __fadd_rn(__fmul_rn(x, factor), summand);
#else
  return x * factor + summand;
#endif
}

RM_DEVICE bool finite(float x) { return (bits_of(x) & 0x7F800000U) != 0x7F800000U; }

// Written so that NaN stays NaN: a broken run must not look well.
RM_DEVICE float rectified(float x) { return x < 0 ? 0.0F : x; }

}  // namespace rackmark::worker::cuda::bodies
