// Decode stage: bytes of a JPEG file to side x side x 3 pixels, RGB.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace rackmark::worker {

inline constexpr std::int64_t kMaxPicturePixels = 100'000'000;

// One picture that cannot be used; the text says why in a few words.
struct BrokenPicture : std::runtime_error {
  explicit BrokenPicture(const std::string& why) : std::runtime_error(why) {}
};

// The shortest side becomes `shortest` pixels long, then the centre of side x side is taken
// (side <= shortest). Grayscale and CMYK pictures become RGB; pictures much larger than needed are
// decoded at a fraction of their size (the DCT's own scaling). Throws BrokenPicture for what is no
// JPEG, ends too early, or has more than kMaxPicturePixels. Memory is bounded by the picture's
// width, not its area, except for progressive files. Thread-safe.
std::vector<std::uint8_t> decode_jpeg(std::span<const std::uint8_t> bytes, std::int64_t shortest,
                                      std::int64_t side);

std::string libjpeg_version();  // "2.1.5"

}  // namespace rackmark::worker
