// Pictures and weights, plain and in blocks of channels, for tests of own convolutions.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/net/net.hpp"

namespace rackmark::worker::onednn {

// [a][b][pixels] one after the other.
struct Plain {
  int a, b, pixels;
  std::vector<double> values;
  Plain(int a_, int b_, int pixels_) : a(a_), b(b_), pixels(pixels_) {
    values.assign(static_cast<std::size_t>(a) * b * pixels, 0.0);
  }
  static Plain random(const char* name, int a, int b, int pixels) {
    Plain plain(a, b, pixels);
    std::ranges::copy(uniform(name, std::ssize(plain.values)), plain.values.begin());
    return plain;
  }
  double* at(int i, int j) {
    return values.data() + (static_cast<std::ptrdiff_t>(i) * b + j) * pixels;
  }
};

// The same in blocks of channels: pictures by b, weights by b and a.
class Blocked {
 public:
  Blocked(const Plain& like, int block, bool weights)
      : block_(block), weights_(weights), blocks_((like.b + block - 1) / block) {
    const int first = weights ? (like.a + block - 1) / block * block : like.a;
    values_.assign(static_cast<std::size_t>(first) * blocks_ * block * like.pixels, 0.0F);
  }
  float& at(int a, int b, int pixel, int pixels) {
    const std::int64_t block = block_, inside = b % block;
    if (!weights_) return values_[((a * blocks_ + b / block) * pixels + pixel) * block + inside];
    const std::int64_t pair = (a / block) * blocks_ + b / block;
    return values_[((pair * pixels + pixel) * block + inside) * block + a % block];
  }
  Blocked& fill(const Plain& plain) {
    for (std::size_t i = 0; i < plain.values.size(); ++i)
      at_index(plain, i) = static_cast<float>(plain.values[i]);
    return *this;
  }
  float& at_index(const Plain& plain, std::size_t i) {
    const auto index = static_cast<int>(i);
    const int outer = index / plain.pixels;
    return at(outer / plain.b, outer % plain.b, index % plain.pixels, plain.pixels);
  }
  float* data() { return values_.data(); }

 private:
  int block_;
  bool weights_;
  std::int64_t blocks_;
  std::vector<float> values_;
};

// Relative to the largest value: cancellation leaves small ones no digits of their own.
inline void expect_near(const Plain& wanted, Blocked& found, const char* pass) {
  double largest = 0, off = 0;
  for (std::size_t i = 0; i < wanted.values.size(); ++i) {
    largest = std::max(largest, std::abs(wanted.values[i]));
    off = std::max(off, std::abs(wanted.values[i] - double{found.at_index(wanted, i)}));
  }
  EXPECT_GT(largest, 0.1) << pass;
  EXPECT_LT(off, 2e-5 * largest) << pass;
}

}  // namespace rackmark::worker::onednn
