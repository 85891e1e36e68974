#include "worker/backend/onednn/picture_loops.hpp"

#include <algorithm>
#include <vector>

namespace rackmark::worker::onednn {

void response_norm(const Kernels& kernels, const LocalResponseNorm& layer,
                   const PictureBatch& pictures, Cells x, Cells dy, Cells out) {
  const Shape& shape = pictures.shape;
  ResponseNormRange all{};
  all.pixels = std::int64_t{shape.height} * shape.width;
  all.blocks = static_cast<int>(pictures.blocks());
  all.before = layer.size / 2;  // of an even size, the longer half lies before the channel
  all.after = (layer.size - 1) / 2;
  all.k = static_cast<float>(layer.k);
  all.scale = static_cast<float>(layer.alpha / layer.size);
  all.beta = static_cast<float>(layer.beta);
  const std::int64_t image_values = pictures.plane() * all.blocks;
  const auto scratch_floats = static_cast<std::size_t>(
      3 * response_norm_scratch(pictures.block, all.blocks, all.before, all.after));
#pragma omp parallel
  {
    std::vector<float> scratch(scratch_floats);
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < std::int64_t{pictures.batch} * shape.height; ++row) {
      const std::int64_t image = row / shape.height;
      ResponseNormRange t = all;
      t.x = x + image * image_values;
      if (dy != nullptr) t.dy = dy + image * image_values;
      t.out = out + image * image_values;
      t.first = row % shape.height * shape.width;
      t.last = t.first + shape.width;
      t.scratch = scratch.data();
      kernels.response_norm(t);
    }
  }
}

namespace {

struct PoolCells {
  Cells x, y, dy, dx;
  std::uint8_t* taps = nullptr;
};

void each_pool_plane(void (*kernel)(const MaxPoolPlane&), const MaxPool& layer,
                     const PictureBatch& from, const Shape& to, const PoolCells& at) {
  const std::int64_t in_plane = from.plane();
  const std::int64_t out_plane = std::int64_t{to.height} * to.width * from.block;
#pragma omp parallel for schedule(static)
  for (std::int64_t plane = 0; plane < from.batch * from.blocks(); ++plane) {
    MaxPoolPlane t{};
    if (at.x != nullptr) t.x = at.x + plane * in_plane, t.y = at.y + plane * out_plane;
    if (at.taps != nullptr) t.taps = at.taps + plane * out_plane;
    if (at.dx != nullptr) t.dy = at.dy + plane * out_plane, t.dx = at.dx + plane * in_plane;
    t.in_height = from.shape.height, t.in_width = from.shape.width;
    t.out_height = to.height, t.out_width = to.width;
    t.kernel = layer.kernel, t.stride = layer.stride, t.pad = layer.pad;
    kernel(t);
  }
}

}  // namespace

void max_pool(const Kernels& kernels, const MaxPool& layer, const PictureBatch& from,
              const Shape& to, Cells x, Cells y, std::uint8_t* taps) {
  each_pool_plane(kernels.max_pool, layer, from, to, {x, y, {}, {}, taps});
}

void max_pool_gradient(const Kernels& kernels, const MaxPool& layer, const PictureBatch& from,
                       const Shape& to, Cells dy, Cells dx, std::uint8_t* taps) {
  each_pool_plane(kernels.max_pool_gradient, layer, from, to, {{}, {}, dy, dx, taps});
}

void bias_gradient(const Kernels& kernels, const PictureBatch& pictures, const float* dy,
                   float* db) {
  const std::int64_t plane = pictures.plane(), blocks = pictures.blocks();
#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::vector<float> zero(pictures.block, 0.0F);
    std::vector<double> total(pictures.block, 0.0), sums(2 * zero.size());
    for (int image = 0; image < pictures.batch; ++image) {
      kernels.moments(dy + (image * blocks + block) * plane, plane / pictures.block, zero.data(),
                      sums.data());
      for (int c = 0; c < pictures.block; ++c) total[c] += sums[c];
    }
    const std::int64_t first = block * pictures.block;
    const auto last = std::min<std::int64_t>(first + pictures.block, pictures.shape.channels);
    for (std::int64_t c = first; c < last; ++c) db[c] = static_cast<float>(total[c - first]);
  }
}

}  // namespace rackmark::worker::onednn
