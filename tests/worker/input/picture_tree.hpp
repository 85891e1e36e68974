// A temporary folder of JPEG files, one folder a class.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "tests/worker/input/jpeg_writer.hpp"
#include "worker/input/pictures.hpp"

namespace rackmark::worker::testing {

class PictureTree : public ::testing::Test {
 protected:
  PictureTree() {
    std::string name = std::filesystem::temp_directory_path() / "rackmark-input-XXXXXX";
    root_ = ::mkdtemp(name.data());
  }
  ~PictureTree() override { std::filesystem::remove_all(root_); }

  void add_picture(const std::string& path, std::uint8_t level) {
    const auto paint = [level](int, int, int) { return level; };
    write_bytes(root_ + "/" + path, encode_jpeg(40, 40, 3, paint));
  }
  // No two pixels and no two numbers are alike for long.
  void add_pattern(const std::string& path, int number, int width, int height) {
    const auto paint = [number](int x, int y, int c) {
      return static_cast<std::uint8_t>(x * 5 + y * 3 + c * 40 + number * 17 + x * y / 16);
    };
    write_bytes(root_ + "/" + path, encode_jpeg(width, height, 3, paint));
  }
  void add_text(const std::string& path, const std::string& text) {
    write_bytes(root_ + "/" + path, {text.begin(), text.end()});
  }
  static PicturesOptions options(std::int64_t batch) {
    PicturesOptions o;
    o.batch = batch;
    o.size = 32;
    return o;
  }

  std::string root_;
};

}  // namespace rackmark::worker::testing
