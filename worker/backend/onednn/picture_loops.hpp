// Own kernels over whole batches of pictures blocked by channel, on all threads: what training and
// inference share.
#pragma once

#include <cstdint>

#include "worker/backend/onednn/kernels/kernels.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::onednn {

// A batch of pictures of this shape, in blocks of 8 or 16 channels.
struct PictureBatch {
  int batch = 1, block = 16;
  Shape shape;
  std::int64_t blocks() const { return (shape.channels + block - 1) / block; }
  std::int64_t plane() const { return std::int64_t{shape.height} * shape.width * block; }
};

// With dy, `out` is the gradient of x.
void response_norm(const Kernels& kernels, const LocalResponseNorm& layer,
                   const PictureBatch& pictures, Cells x, Cells dy, Cells out);

constexpr int kLargestMaxPool = 15;  // pixels across a window: they are numbered in one byte
// Forward; `taps` (a byte for every value of y) is for the gradient and may be null.
void max_pool(const Kernels& kernels, const MaxPool& layer, const PictureBatch& from,
              const Shape& to, Cells x, Cells y, std::uint8_t* taps);
void max_pool_gradient(const Kernels& kernels, const MaxPool& layer, const PictureBatch& from,
                       const Shape& to, Cells dy, Cells dx, std::uint8_t* taps);

// Of a float32 dy; db is overwritten, channels that fill the last block are left out.
void bias_gradient(const Kernels& kernels, const PictureBatch& pictures, const float* dy,
                   float* db);

}  // namespace rackmark::worker::onednn
