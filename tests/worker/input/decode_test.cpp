#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/worker/input/jpeg_writer.hpp"
#include "worker/input/crop_resampler.hpp"
#include "worker/input/jpeg.hpp"

namespace rackmark::worker {
namespace {

using testing::encode_jpeg;

std::vector<std::uint8_t> decode(const std::vector<std::uint8_t>& bytes, std::int64_t size) {
  return decode_jpeg(bytes, resized_side(size), size);
}

struct Rgb {
  int red, green, blue;
};

Rgb centre(const std::vector<std::uint8_t>& pixels, int size) {
  const auto at = static_cast<std::size_t>((size / 2 * size + size / 2) * 3);
  return {pixels[at], pixels[at + 1], pixels[at + 2]};
}

void expect_near(Rgb found, Rgb wanted, int tolerance) {
  EXPECT_NEAR(found.red, wanted.red, tolerance);
  EXPECT_NEAR(found.green, wanted.green, tolerance);
  EXPECT_NEAR(found.blue, wanted.blue, tolerance);
}

std::string why_broken(const std::vector<std::uint8_t>& bytes) {
  try {
    decode(bytes, 32);
  } catch (const BrokenPicture& broken) {
    return broken.what();
  }
  return "not broken";
}

std::uint8_t gray(int, int, int) { return 200; }
std::uint8_t orange(int, int, int c) { return c == 0 ? 230 : c == 1 ? 120 : 20; }

TEST(DecodeJpeg, KeepsColours) {
  const auto pixels = decode(encode_jpeg(64, 48, 3, orange), 32);
  ASSERT_EQ(pixels.size(), 32U * 32 * 3);
  expect_near(centre(pixels, 32), {230, 120, 20}, 6);
}

TEST(DecodeJpeg, GrayscaleBecomesRgb) {
  expect_near(centre(decode(encode_jpeg(50, 50, 1, gray), 32), 32), {200, 200, 200}, 3);
}

TEST(DecodeJpeg, CmykBecomesRgb) {
  // Stored inverted: cyan 255 means no cyan. Half of the light of green and blue is taken away.
  const auto paint = [](int, int, int c) -> std::uint8_t { return c == 0 || c == 3 ? 255 : 128; };
  expect_near(centre(decode(encode_jpeg(40, 40, 4, paint), 32), 32), {255, 128, 128}, 6);
}

TEST(DecodeJpeg, ProgressiveFilesWork) {
  expect_near(centre(decode(encode_jpeg(64, 64, 3, orange, true), 32), 32), {230, 120, 20}, 6);
}

TEST(DecodeJpeg, TinyAndExtremeShapesWork) {
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 900}, {3000, 7}, {33, 32}}) {
    const auto pixels = decode(encode_jpeg(width, height, 3, orange), 32);
    ASSERT_EQ(pixels.size(), 32U * 32 * 3) << width << " x " << height;
    expect_near(centre(pixels, 32), {230, 120, 20}, 8);
  }
}

TEST(DecodeJpeg, LargePicturesAreScaledByTheDct) {
  // Left half black, right half white: the middle column of the crop is the edge.
  const auto paint = [](int x, int, int) -> std::uint8_t { return x < 600 ? 0 : 255; };
  const auto pixels = decode(encode_jpeg(1200, 1200, 3, paint), 28);
  const auto at = [&](std::size_t x) { return static_cast<int>(pixels[(14 * 28 + x) * 3]); };
  EXPECT_LT(at(4), 10);
  EXPECT_GT(at(23), 245);
  EXPECT_NEAR(at(13) + at(14), 255, 12);
}

TEST(DecodeJpeg, WhatIsNoPictureIsBroken) {
  EXPECT_EQ(why_broken({}), "is empty");
  const std::string text = "This is a text file with the name of a picture.";
  EXPECT_THAT(why_broken({text.begin(), text.end()}), ::testing::HasSubstr("Not a JPEG file"));
}

TEST(DecodeJpeg, ACutFileIsBrokenEvenWhereTheMiddleIsWhole) {
  const auto noise = [](int x, int y, int c) {
    return static_cast<std::uint8_t>(x * 7 + y * 13 + c * 31);
  };
  auto bytes = encode_jpeg(200, 200, 3, noise);
  ASSERT_EQ(why_broken(bytes), "not broken");
  bytes.resize(bytes.size() * 95 / 100);
  EXPECT_THAT(why_broken(bytes), ::testing::HasSubstr("Premature end"));
}

TEST(DecodeJpeg, HugePicturesAreRefusedBeforeTheyAreDecoded) {
  auto bytes = encode_jpeg(16, 16, 3, orange);
  for (std::size_t i = 0; i + 8 < bytes.size(); ++i) {
    if (bytes[i] != 0xff || bytes[i + 1] != 0xc0) continue;  // start of frame: height, width
    for (const std::size_t k : {5, 6, 7, 8}) bytes[i + k] = 0xf0;
    break;
  }
  EXPECT_THAT(why_broken(bytes), ::testing::HasSubstr("more than 100 million"));
}

TEST(CropResampler, AConstantPictureStaysConstant) {
  CropResampler resampler(300, 200, resized_side(64), 64);
  const std::vector<std::uint8_t> row(900, 77);
  for (std::int64_t y = resampler.first_row(); y < resampler.end_row(); ++y)
    resampler.push_row(row);
  for (const std::uint8_t value : resampler.finish()) ASSERT_EQ(value, 77);
}

TEST(CropResampler, TakesTheCentreOfTheResizedPicture) {
  // 256 x 256 with size 224 is a plain crop of 16 pixels a side: no resampling at all.
  CropResampler resampler(256, 256, 256, 224);
  std::vector<std::uint8_t> row(256 * 3);
  EXPECT_LE(resampler.end_row() - resampler.first_row(), 224 + 2) << "rows that are not needed";
  for (std::int64_t y = resampler.first_row(); y < resampler.end_row(); ++y) {
    for (std::size_t x = 0; x < 256; ++x) {
      row[x * 3] = static_cast<std::uint8_t>(x);
      row[x * 3 + 1] = static_cast<std::uint8_t>(y);
    }
    resampler.push_row(row);
  }
  const auto pixels = resampler.finish();
  for (std::size_t y = 0; y < 224; ++y) {
    for (std::size_t x = 0; x < 224; ++x) {
      ASSERT_EQ(pixels[(y * 224 + x) * 3], x + 16);
      ASSERT_EQ(pixels[(y * 224 + x) * 3 + 1], y + 16);
    }
  }
}

TEST(CropResampler, ShrinkingAveragesInsteadOfSkipping) {
  // A one-pixel checkerboard becomes even gray; picking single pixels would give black and white.
  CropResampler resampler(1024, 1024, resized_side(112), 112);
  std::vector<std::uint8_t> row(1024 * 3);
  for (std::int64_t y = resampler.first_row(); y < resampler.end_row(); ++y) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = (i / 3 + static_cast<std::size_t>(y)) % 2 == 0 ? 255 : 0;
    }
    resampler.push_row(row);
  }
  for (const std::uint8_t value : resampler.finish()) ASSERT_NEAR(value, 128, 3);
}

}  // namespace
}  // namespace rackmark::worker
