// A convolution's products pixel by pixel, for AVX-512, where oneDNN's kernel has too few pixels of
// a row to keep its registers busy: rows of 7, and every second pixel.
//
// Everything is float32 in blocks of 16 channels. No kernel allocates, throws, or starts threads.
#pragma once

#include <cstdint>

namespace rackmark::worker::onednn {

inline constexpr int kDirectBlock = 16;

// Some pixels of one row of the output, for one or two blocks of output channels.
struct DirectRow {
  const float* x;               // [in_blocks][row][pixel][16], where the first window begins
  std::int64_t x_block, x_row;  // floats from block to block, from row to row
  const float* weights;         // [in_blocks][kernel_h][kernel_w][16 in][blocks * 16 out]
  float* y;                     // the first pixel
  std::int64_t y_block;         // floats to the second block of output channels
  const float* bias;            // [blocks * 16]
  int in_blocks, kernel_h, kernel_w;
  int stride;  // 1 or 2
  int pixels;
  int blocks;      // 1 or 2
  bool sum, relu;  // plus what y holds; then ReLU
};

bool has_direct_kernel();  // of this host
void direct_row(const DirectRow& row);

}  // namespace rackmark::worker::onednn
