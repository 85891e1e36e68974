// Pictures as bytes, and what is made of them before a net sees them: a window is cut out, half of
// them may be mirrored, and values are normalised with ImageNet's mean and deviation.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace rackmark::worker {

// Of torchvision's models, in RGB, for values from 0 to 1.
constexpr std::array<float, 3> kPictureMean = {0.485F, 0.456F, 0.406F};
constexpr std::array<float, 3> kPictureDeviation = {0.229F, 0.224F, 0.225F};

// A byte of colour c becomes byte * picture_scale(c) + picture_shift(c), in float, wherever that is
// computed: (byte / 255 - mean) / deviation.
constexpr float picture_scale(int c) { return 1.0F / (255.0F * kPictureDeviation[c]); }
constexpr float picture_shift(int c) { return -kPictureMean[c] / kPictureDeviation[c]; }

// The size x size part of a picture that is used; all of it lies inside the picture.
struct PictureWindow {
  std::int32_t top = 0, left = 0;
  std::int32_t mirrored = 0;  // 1: left and right are exchanged
};

// A batch as it comes from files.
struct RawPictures {
  std::span<const std::uint8_t> pixels;    // count x side x side x 3, RGB interleaved
  std::span<const PictureWindow> windows;  // count
  int side = 0;
};

// Throws std::invalid_argument when sizes do not agree or a window leaves its picture.
void require_windows(const RawPictures& pictures, int size);

// images: count x 3 x size x size, NCHW. Throws as require_windows() does.
void normalise(const RawPictures& pictures, int size, std::span<float> images);

}  // namespace rackmark::worker
