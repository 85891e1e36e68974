// Real JPEG files for tests, written with libjpeg.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace rackmark::worker::testing {

// Value of channel c (0 to channels - 1) at x, y.
using Paint = std::function<std::uint8_t(int x, int y, int channel)>;
// channels: 1 grayscale, 3 RGB, 4 CMYK (inverted and marked, as Photoshop writes it).
std::vector<std::uint8_t> encode_jpeg(int width, int height, int channels, const Paint& paint,
                                      bool progressive = false);
void write_bytes(const std::string& path, const std::vector<std::uint8_t>& bytes);

}  // namespace rackmark::worker::testing
