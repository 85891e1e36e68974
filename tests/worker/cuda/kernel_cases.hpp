// What the tests of the kernels share: shapes that take every way through the code (whole groups of
// channels and parts of one, rows inside a concat, addresses that allow no vectors, more rows than
// one block or lane has), drawn values, and comparisons with plain loops in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "tests/worker/cuda/stored_values.hpp"
#include "tests/worker/cuda/tested_kernels.hpp"
#include "worker/backend/cuda/kernels/kernels.hpp"

namespace rackmark::worker::cuda::testing {

constexpr Type kTypes[] = {Type::kFloat, Type::kHalf, Type::kBfloat};
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Place {  // of a matrix
  std::int64_t rows;
  int channels;
  std::int64_t stride = 0;
  int first = 0;
  std::string text() const {
    return std::to_string(rows) + " x " + std::to_string(channels) + " of " +
           std::to_string(stride) + " from " + std::to_string(first);
  }
};
constexpr Place kPlaces[] = {{7, 3},           {37, 8},    {5, 20},
                             {29, 24, 64, 16}, {9, 64},    {33, 16, 41, 3},
                             {11, 5, 9, 2},    {6, 8, 21}, {1, 8}};
// Several blocks; one and two tiles of channels; whole groups and not.
constexpr Place kTall[] = {{4200, 8}, {520, 64, 80, 8}, {1400, 20}, {130, 264}, {2, 3}};

// body(type, place) for every type and place, named in what a failure prints.
template <std::size_t kCount, class Body>
void for_types(const Place (&places)[kCount], const Body& body) {
  for (const Type type : kTypes) {
    for (const Place& place : places) {
      SCOPED_TRACE(std::string(name_of(type)) + " " + place.text());
      body(type, place);
      if (::testing::Test::HasFailure()) return;  // one shape says enough
    }
  }
}
template <class Body>
void for_types(const Body& body) {
  constexpr Place kNone[] = {{1, 1}};
  for_types(kNone, [&](Type type, const Place&) { body(type); });
}

inline Stored drawn(Type type, const Place& p, unsigned seed, double factor = 1,
                    double offset = 0) {
  Draws draw(seed);
  Stored values(type, p.rows, p.channels, p.stride, p.first);
  values.fill([&](std::int64_t, int) { return offset + factor * draw(); });
  return values;
}
inline Stored empty(Type type, const Place& p) {
  return {type, p.rows, p.channels, p.stride, p.first};
}
inline std::vector<float> floats(int count, unsigned seed, double factor = 1, double offset = 0) {
  Draws draw(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) x = static_cast<float>(offset + factor * draw());
  return values;
}
inline bool bit(const std::vector<std::uint8_t>& mask, const Place& p, std::int64_t row, int c) {
  const auto at = static_cast<std::size_t>(row * mask_row_bytes(p.channels) + c / 8);
  return (mask[at] >> (c % 8) & 1) != 0;
}
inline std::vector<std::uint8_t> drawn_mask(const Place& p, unsigned seed) {
  Draws draw(seed);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(mask_bytes(p.rows, p.channels)));
  for (auto& byte : mask) byte = static_cast<std::uint8_t>(draw.bits());
  return mask;
}
inline std::vector<std::uint8_t> empty_mask(const Place& p) {
  return std::vector<std::uint8_t>(static_cast<std::size_t>(mask_bytes(p.rows, p.channels)), 0xFF);
}

// Every element of `got` is what expected(row, channel) says, and nothing beside them has changed.
// `magnitude`: of the terms that were added up.
template <class Expected>
void expect_values(Type type, const Stored& got, const Expected& expected, double magnitude = 4) {
  EXPECT_TRUE(got.others_untouched());
  for (std::int64_t row = 0; row < got.rows(); ++row) {
    for (int c = 0; c < got.channels(); ++c) {
      const double want = expected(row, c), have = got.get(row, c);
      const bool same = std::isnan(want) ? std::isnan(have)
                        : std::isinf(want)
                            ? have == want
                            : std::abs(have - want) <= tolerance(type, want, magnitude);
      ASSERT_TRUE(same) << "row " << row << " channel " << c << ": " << have << ", expected "
                        << want;
    }
  }
}
inline void expect_close(const std::vector<float>& got, const std::function<double(int)>& expected,
                         double relative, double absolute = 0) {
  for (int c = 0; c < static_cast<int>(got.size()); ++c) {
    const double want = expected(c);
    ASSERT_NEAR(got[static_cast<std::size_t>(c)], want, relative * std::abs(want) + absolute)
        << "channel " << c;
  }
}

inline double relu(double x) { return x < 0 ? 0 : x; }

}  // namespace rackmark::worker::cuda::testing
