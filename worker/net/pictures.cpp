#include "worker/net/pictures.hpp"

#include <stdexcept>
#include <string>

namespace rackmark::worker {
namespace {

std::size_t values_of(int side) { return static_cast<std::size_t>(side) * side * 3; }

void require_count(const std::string& what, std::size_t got, std::size_t count, int side) {
  if (got == count * values_of(side)) return;
  throw std::invalid_argument("pictures: " + std::to_string(count) + " of " + std::to_string(side) +
                              " pixels have " + std::to_string(count * values_of(side)) + " " +
                              what + ", not " + std::to_string(got));
}

void normalise_one(const std::uint8_t* from, int side, const PictureWindow& window, int size,
                   float* to) {
  const int step = window.mirrored != 0 ? -3 : 3;
  const int first = window.left + (window.mirrored != 0 ? size - 1 : 0);
  for (int c = 0; c < 3; ++c) {
    const float scale = picture_scale(c), shift = picture_shift(c);
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

void require_windows(const RawPictures& pictures, int size) {
  require_count("bytes", pictures.pixels.size(), pictures.windows.size(), pictures.side);
  const int most = pictures.side - size;
  for (std::size_t i = 0; i < pictures.windows.size(); ++i) {
    const PictureWindow& window = pictures.windows[i];
    if (window.top >= 0 && window.left >= 0 && window.top <= most && window.left <= most) continue;
    throw std::invalid_argument("pictures: the window of " + std::to_string(size) + " pixels at " +
                                std::to_string(window.top) + ", " + std::to_string(window.left) +
                                " leaves picture " + std::to_string(i) + " of " +
                                std::to_string(pictures.side) + " pixels");
  }
}

void normalise(const RawPictures& pictures, int size, std::span<float> images) {
  require_windows(pictures, size);
  require_count("values", images.size(), pictures.windows.size(), size);
  for (std::size_t i = 0; i < pictures.windows.size(); ++i) {
    normalise_one(pictures.pixels.data() + i * values_of(pictures.side), pictures.side,
                  pictures.windows[i], size, images.data() + i * values_of(size));
  }
}

}  // namespace rackmark::worker
