#include "worker/net/pictures.hpp"

#include <stdexcept>
#include <string>

namespace rackmark::worker {
namespace {

void check(const RawPictures& pictures, int size, std::size_t values) {
  const std::size_t count = pictures.windows.size();
  const auto bytes = static_cast<std::size_t>(pictures.side) * pictures.side * 3;
  const auto wanted = static_cast<std::size_t>(size) * size * 3;
  if (pictures.pixels.size() != count * bytes || values != count * wanted) {
    throw std::invalid_argument("pictures: " + std::to_string(count) + " of " +
                                std::to_string(pictures.side) + " and " + std::to_string(size) +
                                " pixels do not take " + std::to_string(pictures.pixels.size()) +
                                " bytes and " + std::to_string(values) + " values");
  }
  for (const PictureWindow& window : pictures.windows) {
    if (window.top >= 0 && window.left >= 0 && window.top + size <= pictures.side &&
        window.left + size <= pictures.side) {
      continue;
    }
    throw std::invalid_argument("pictures: a window of " + std::to_string(size) + " pixels at " +
                                std::to_string(window.top) + ", " + std::to_string(window.left) +
                                " leaves its picture of " + std::to_string(pictures.side));
  }
}

void normalise_one(const std::uint8_t* from, int side, const PictureWindow& window, int size,
                   float* to) {
  const int step = window.mirrored != 0 ? -3 : 3;
  const int first = window.left + (window.mirrored != 0 ? size - 1 : 0);
  for (int c = 0; c < 3; ++c) {
    const float scale = 1.0F / (255.0F * kPictureDeviation[c]);
    const float shift = -kPictureMean[c] / kPictureDeviation[c];
    for (int y = 0; y < size; ++y) {
      const std::uint8_t* pixel =
          from + (static_cast<std::ptrdiff_t>(window.top + y) * side + first) * 3 + c;
      for (int x = 0; x < size; ++x, pixel += step) {
        *to++ = static_cast<float>(*pixel) * scale + shift;
      }
    }
  }
}

}  // namespace

void normalise(const RawPictures& pictures, int size, std::span<float> images) {
  check(pictures, size, images.size());
  const auto bytes = static_cast<std::size_t>(pictures.side) * pictures.side * 3;
  const auto values = static_cast<std::size_t>(size) * size * 3;
  for (std::size_t i = 0; i < pictures.windows.size(); ++i) {
    normalise_one(pictures.pixels.data() + i * bytes, pictures.side, pictures.windows[i], size,
                  images.data() + i * values);
  }
}

}  // namespace rackmark::worker
