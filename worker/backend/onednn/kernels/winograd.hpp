// Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, 2015, arXiv:1509.09308): tiles of 6 x 6
// pixels of the input, 2 pixels apart from their neighbours' ends, give tiles of 4 x 4 of the
// output with 36 products for each pair of channels instead of 144.
//
// Everything is float32 in blocks of `block` channels, one vector of the instruction set; a plane
// is [height][width][block]. A transformed tile or kernel has 36 points, each `step` floats after
// the one before. No kernel allocates, throws, or starts threads; one task is one block of channels
// of one tile, or one pair of blocks.
#pragma once

#include <cstdint>

#include "worker/backend/onednn/kernels/convolution_end.hpp"

namespace rackmark::worker::onednn {

inline constexpr int kWinogradPoints = 36, kWinogradTile = 4;

// Where a tile lies in a plane; parts that lie outside are read as zeros and not written.
struct WinogradTile {
  int height, width;  // of the plane
  int top, left;      // of the tile; may be negative
};

// result[r][j] = (add ? result[r][j] : 0) + sum over d of a[r * a_row + d * a_step] * b[d][j] for
// one row of b and result of one or two blocks.
struct WinogradProduct {
  const float* a;
  std::int64_t a_row, a_step;
  const float* b;
  std::int64_t b_step;
  float* result;
  std::int64_t result_row;
  int rows, depth;
  int vectors;  // blocks in a row of b: 1 or 2
  bool add;
};

struct WinogradKernels {
  int block;
  const char* name;  // as profiles show it
  // B' d B: a tile of 6 x 6 to its 36 points.
  void (*source)(const float* plane, const WinogradTile& tile, float* to, std::int64_t step);
  // A'm A: 36 points to a tile of 4 x 4 and its end.
  void (*result)(const float* from, std::int64_t step, const ConvolutionEnd& end, float* plane,
                 const WinogradTile& tile);
  // A y A': a tile of 4 x 4 of the output's gradient to its 36 points.
  void (*gradient)(const float* plane, const WinogradTile& tile, float* to, std::int64_t step);
  // G w G': weights [3][3][in][out] of a block each to [in][out] at every point, `row` floats from
  // one input channel to the next. `turned`: as the gradient of the input wants them, rotated by
  // half a turn and [out][in].
  void (*weights)(const float* weights, bool turned, float* to, std::int64_t step,
                  std::int64_t row);
  // G'u G: the gradient of such points back to that of the weights, which is overwritten.
  void (*weight_gradient)(const float* from, std::int64_t step, std::int64_t row, float* weights);
  void (*multiply)(const WinogradProduct& product);
};

// For blocks of 8 channels (AVX2) or 16 (AVX-512); null where this host lacks them.
const WinogradKernels* winograd_kernels(int block);

}  // namespace rackmark::worker::onednn
