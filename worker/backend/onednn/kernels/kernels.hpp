// Vectorised loops that oneDNN lacks: batch norm fused with ReLU and residual add, element-wise
// passes, the optimiser. One table per instruction set, chosen at run time.
//
// A plane is one image's block of channels: `pixels` rows of `block` values, contiguous
// (nChw16c, nChw8c). Pointers to void are values as the plan stores them, float32 or bf16 by the
// table's Storage; all arithmetic is float32 (sums: double), and what is stored as bf16 is rounded
// once. Per-channel arrays hold `block` floats. Pointers are aligned to their values at least; no
// kernel allocates, throws, or starts threads.
#pragma once

#include <cstdint>

#include "worker/backend/onednn/kernels/bfloat.hpp"

namespace rackmark::worker::onednn {

// y = relu?(a*x + b + (residual | a2*x2 + b2 | nothing))
struct NormalizePlane {
  const void* x;
  const float *a, *b;
  const void* x2;        // residual or second batch norm's input; may be null
  const float *a2, *b2;  // null: x2 is a plain residual
  void* y;               // may be x
  std::int64_t pixels;
  bool relu;
};

enum class Mask { kNone, kFromAffine, kFromOutput };  // where ReLU's mask comes from

// dz = mask(g + g2); dz is stored if asked for. sums = {sum dz, sum dz*(x-mean), sum
// dz*(x2-mean2)}, each `block` doubles, overwritten; the third only when x2 is given.
struct ReducePlane {
  const void *g, *g2;  // g2 may be null
  const void* x;
  const float* mean;
  const void* x2;  // may be null, with mean2
  const float* mean2;
  const float *a, *b;  // kFromAffine: mask is a*x + b > 0
  const void* y;       // kFromOutput: mask is y > 0
  void* dz;            // may be null, may be g
  double* sums;
  std::int64_t pixels;
  Mask mask;
};

// dx = p*mask(g) + q*x + r, mask from a*x + b > 0 if `a` is given.
struct GradientPlane {
  const void *g, *x;
  const float *a, *b;  // may be null
  const float *p, *q, *r;
  void* dx;  // may be g
  std::int64_t pixels;
};

// Local response normalisation over neighbouring channels of pixels [first, last) of one image:
// s = k + scale * (sum of x^2 over channels c-before to c+after), y = x * s^-beta. With dy given,
// `out` is dx instead. Channels that fill the last block are zero in x and dy, and become zero.
struct ResponseNormRange {
  const void* x;   // first plane of the image
  const void* dy;  // null: forward
  void* out;
  std::int64_t pixels, first, last;  // of a plane; the range
  int blocks, before, after;         // planes of the image; the window beside its channel
  float k, scale, beta;
  float* scratch;  // 3 x response_norm_scratch(...) floats
};
constexpr std::int64_t response_norm_scratch(int block, int blocks, int before, int after) {
  return std::int64_t{block} * blocks + before + after;
}

// Max pool of one plane. Windows may hang over every edge, where nothing counts. Of equal values
// the first in row order is the maximum. `taps` holds, for every value of y, which pixel of the
// window that was (row by row, at most 15 x 15 of them): written forward unless null, read
// backward.
struct MaxPoolPlane {
  const void* x;
  void* y;
  std::uint8_t* taps;
  const void* dy;
  void* dx;  // overwritten; a sum of several in bf16 is rounded at every term
  int in_height, in_width, out_height, out_width;
  int kernel, stride, pad;
};

struct SgdRange {
  float* weights;
  const float* gradient;
  float* velocity;
  std::int64_t count;
  float learning_rate, momentum, weight_decay;
};

struct Kernels {
  const char* isa;
  // sums = {sum (x-shift), sum (x-shift)^2}, each `block` doubles, overwritten.
  void (*moments)(const void* x, std::int64_t pixels, const float* shift, double* sums);
  void (*normalize)(const NormalizePlane& plane);
  void (*reduce)(const ReducePlane& plane);
  void (*gradient)(const GradientPlane& plane);
  void (*add)(void* into, const void* from, std::int64_t count);  // into += from
  void (*sum)(const void* a, const void* b, void* y, std::int64_t count);
  void (*relu)(const void* x, void* y, std::int64_t count);                 // y may be x
  void (*relu_gradient)(const void* y, void* g, std::int64_t count);        // g = y > 0 ? g : 0
  void (*scale)(const void* x, float factor, void* y, std::int64_t count);  // y may be x
  void (*widen)(const void* x, float* y, std::int64_t count);
  void (*narrow)(const float* x, void* y, std::int64_t count);
  void (*round)(const float* x, float* y, std::int64_t count);  // to what narrow keeps; y may be x
  void (*sgd)(const SgdRange& range);
  void (*response_norm)(const ResponseNormRange& range);
  void (*max_pool)(const MaxPoolPlane& plane);
  void (*max_pool_gradient)(const MaxPoolPlane& plane);
};

// The best table for this host and block size (8 or 16).
const Kernels& kernels(int block, Storage storage = Storage::kFloat);

// The tables themselves, for tests; null where this host cannot run them.
const Kernels* baseline_kernels(int block, Storage storage = Storage::kFloat);
const Kernels* avx2_kernels(int block, Storage storage = Storage::kFloat);
const Kernels* avx512_kernels(int block, Storage storage = Storage::kFloat);

}  // namespace rackmark::worker::onednn
