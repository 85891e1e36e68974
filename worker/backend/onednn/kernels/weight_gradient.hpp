// Gradient of a convolution's weights on AVX2, where oneDNN's own kernel is its slowest by far: it
// keeps sums in memory from one row of a picture to the next, this one in registers over all rows.
#pragma once

#include <cstdint>

namespace rackmark::worker::onednn {

// One block of 8 input channels against one or two blocks of 8 output channels, over some images
// and some rows of the output. Sums go on top of what dw holds. Everything is float32; a plane is
// [height][width][8]. No kernel allocates, throws, or starts threads.
struct WeightGradientTask {
  const float* x;                   // the first image's plane; rows hold their padding
  std::int64_t x_image;             // floats from image to image
  const float* dy;                  // of the first output block
  std::int64_t dy_image, dy_block;  // floats from image to image, to the second output block
  float* dw;                        // [kernel_h][kernel_w][8 in][8 out], of the first output block
  std::int64_t dw_block;            // floats to the second output block
  int output_blocks;                // 1 or 2
  int images;
  int x_height, x_width;              // x_width with padding
  int first_row, last_row, dy_width;  // rows [first_row, last_row) of dy, and pixels of a row
  int kernel_h, kernel_w, stride, pad_h;
};

bool has_weight_gradient();  // of this host
void add_weight_gradient(const WeightGradientTask& task);

}  // namespace rackmark::worker::onednn
