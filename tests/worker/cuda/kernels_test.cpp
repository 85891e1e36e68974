// The engine's own GPU kernels, compiled for the host (or on a GPU: tested_kernels.hpp), against
// plain loops in double. Shapes take
// every way through the code: whole groups of channels and parts of one, rows inside a concat,
// addresses that allow no vectors, more rows than one block or lane has.
#include "worker/backend/cuda/kernels/kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>

#include "tests/worker/cuda/stored_values.hpp"
#include "tests/worker/cuda/tested_kernels.hpp"
#include "worker/net/net.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker::cuda::testing {
namespace {

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

Stored drawn(Type type, const Place& p, unsigned seed, double factor = 1, double offset = 0) {
  Draws draw(seed);
  Stored values(type, p.rows, p.channels, p.stride, p.first);
  values.fill([&](std::int64_t, int) { return offset + factor * draw(); });
  return values;
}
Stored empty(Type type, const Place& p) { return {type, p.rows, p.channels, p.stride, p.first}; }
std::vector<float> floats(int count, unsigned seed, double factor = 1, double offset = 0) {
  Draws draw(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) x = static_cast<float>(offset + factor * draw());
  return values;
}
bool bit(const std::vector<std::uint8_t>& mask, const Place& p, std::int64_t row, int c) {
  const auto at = static_cast<std::size_t>(row * mask_row_bytes(p.channels) + c / 8);
  return (mask[at] >> (c % 8) & 1) != 0;
}
std::vector<std::uint8_t> drawn_mask(const Place& p, unsigned seed) {
  Draws draw(seed);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(mask_bytes(p.rows, p.channels)));
  for (auto& byte : mask) byte = static_cast<std::uint8_t>(draw.bits());
  return mask;
}
std::vector<std::uint8_t> empty_mask(const Place& p) {
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
void expect_close(const std::vector<float>& got, const std::function<double(int)>& expected,
                  double relative, double absolute = 0) {
  for (int c = 0; c < static_cast<int>(got.size()); ++c) {
    const double want = expected(c);
    ASSERT_NEAR(got[static_cast<std::size_t>(c)], want, relative * std::abs(want) + absolute)
        << "channel " << c;
  }
}

double relu(double x) { return x < 0 ? 0 : x; }

// --- stored numbers ------------------------------------------------------------------------------

Stored narrowed(Type type, const std::vector<float>& from) {
  Stored to(type, static_cast<std::int64_t>(from.size()), 1);
  tested_kernels(type).narrow(
      nullptr, {from.data(), to.matrix().data, static_cast<std::int64_t>(from.size())});
  return to;
}
float as_float(std::uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// All 65,536 patterns to float and back, NaN and the sign of zero included.
TEST(CudaKernels, SixteenBitNumbersAreFloats) {
  for (const Type type : {Type::kHalf, Type::kBfloat}) {
    SCOPED_TRACE(name_of(type));
    std::vector<std::uint16_t> patterns(65536), back(65536);
    std::iota(patterns.begin(), patterns.end(), std::uint16_t{0});
    std::vector<float> wide(65536);
    tested_kernels(type).widen(nullptr, {patterns.data(), wide.data(), 65536});
    tested_kernels(type).narrow(nullptr, {wide.data(), back.data(), 65536});
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      const double value = decoded(type, patterns[i]);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(wide[i]) && std::isnan(decoded(type, back[i]))) << i;
        continue;
      }
      ASSERT_EQ(wide[i], value) << i;
      ASSERT_EQ(std::signbit(wide[i]), std::signbit(value)) << i;
      ASSERT_EQ(back[i], patterns[i]);
    }
  }
}

// The middle between any two neighbours, the floats beside it, and floats of any bits.
TEST(CudaKernels, SixteenBitNumbersRoundToNearestEven) {
  for (const Type type : {Type::kHalf, Type::kBfloat}) {
    SCOPED_TRACE(name_of(type));
    // All of a NaN's payload below what is kept.
    std::vector<float> floats{as_float(0x7F800001U), as_float(0xFF800001U)};
    for (int pattern = 0; pattern < 65536; ++pattern) {
      const double value = decoded(type, static_cast<std::uint16_t>(pattern));
      const double next = decoded(type, static_cast<std::uint16_t>(pattern + 1));
      if (!std::isfinite(value) || !std::isfinite(next)) continue;
      const auto middle = static_cast<float>((value + next) / 2);
      floats.insert(floats.end(),
                    {std::nextafter(middle, -1e30F), middle, std::nextafter(middle, 1e30F)});
    }
    Draws draw;
    for (int i = 0; i < 100000; ++i) floats.push_back(as_float(draw.bits()));
    for (const float x : {65519.99F, 65520.0F, 3.3961776e38F}) floats.insert(floats.end(), {x, -x});
    const Stored to = narrowed(type, floats);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      const double got = to.get(static_cast<std::int64_t>(i), 0), want = rounded(type, floats[i]);
      ASSERT_TRUE(got == want || (std::isnan(got) && std::isnan(want)))
          << floats[i] << ": " << got << ", expected " << want;
    }
  }
}

TEST(CudaKernels, NarrowAndWiden) {
  for (const Type type : kTypes) {
    for (const int count : {1, 8, 53}) {
      for (const int offset : {0, 1}) {  // whole groups, and addresses that allow none
        SCOPED_TRACE(std::string(name_of(type)) + " " + std::to_string(count));
        const auto from = floats(count + offset, 3);
        Stored to(type, count + offset, 1);
        std::vector<float> back(static_cast<std::size_t>(count + offset), -7);
        auto* at = static_cast<std::uint8_t*>(to.matrix().data) + offset * width(type);
        tested_kernels(type).narrow(nullptr, {from.data() + offset, at, count});
        tested_kernels(type).widen(nullptr, {at, back.data() + offset, count});
        for (int i = offset; i < count + offset; ++i) {
          const auto index = static_cast<std::size_t>(i);
          ASSERT_EQ(to.get(i, 0), rounded(type, from[index]));
          ASSERT_EQ(back[index], to.get(i, 0));
        }
        ASSERT_EQ(back[0], offset == 1 ? -7 : to.get(0, 0));
      }
    }
  }
}

// --- elementwise ---------------------------------------------------------------------------------

TEST(CudaKernels, LoadPicturesTransposesAndPads) {
  for (const Type type : kTypes) {
    for (const int channels : {3, 4, 8, 20}) {
      for (const int planes : {1, 3, channels}) {
        if (planes > channels) continue;
        SCOPED_TRACE(std::string(name_of(type)) + " " + std::to_string(channels));
        const Place place{2 * 3 * 5, channels};
        const auto images = floats(2 * planes * 15, 1);
        Stored y = empty(type, place);
        tested_kernels(type).load_pictures(nullptr, {images.data(), planes, {y.matrix(), 2, 3, 5}});
        expect_values(type, y, [&](std::int64_t row, int c) {
          return c < planes
                     ? images[static_cast<std::size_t>((row / 15 * planes + c) * 15 + row % 15)]
                     : 0.0;
        });
      }
    }
  }
}

// Bit for bit what normalise() makes, as the type stores it. Windows at every border.
TEST(CudaKernels, LoadRawPicturesCutsMirrorsAndNormalises) {
  constexpr int kSides[][2] = {{9, 5}, {7, 7}, {33, 32}};
  for (const Type type : kTypes) {
    for (const auto& [side, size] : kSides) {
      const int far = side - size, middle = far / 2;
      const std::vector<PictureWindow> windows{
          {0, 0, 0}, {far, far, 1}, {0, far, 0}, {far, 0, 1}, {middle, far, 1}};
      const auto count = static_cast<std::int64_t>(windows.size());
      Draws draw;
      std::vector<std::uint8_t> pixels(static_cast<std::size_t>(count * side * side * 3));
      for (auto& byte : pixels) byte = static_cast<std::uint8_t>(draw.bits());
      std::vector<float> images(static_cast<std::size_t>(count * size * size * 3));
      normalise({pixels, windows, side}, size, images);
      for (const int channels : {3, 4, 8, 20}) {
        SCOPED_TRACE(std::string(name_of(type)) + " " + std::to_string(size) + " of " +
                     std::to_string(side) + " channels " + std::to_string(channels));
        Stored y = empty(type, {count * size * size, channels});
        tested_kernels(type).load_raw_pictures(
            nullptr, {pixels.data(), windows.data(), side, {y.matrix(), 5, size, size}});
        const std::int64_t plane = std::int64_t{size} * size;
        for (std::int64_t row = 0; row < y.rows(); ++row) {
          for (int c = 0; c < channels; ++c) {
            const auto at = static_cast<std::size_t>((row / plane * 3 + c) * plane + row % plane);
            ASSERT_EQ(y.get(row, c), c < 3 ? rounded(type, images[at]) : 0.0) << row << " " << c;
          }
        }
      }
    }
  }
}

TEST(CudaKernels, RectifyKeepsNanAndAMask) {
  for_types(kPlaces, [](Type type, const Place& place) {
    Stored x = drawn(type, place, 1);
    x.set(0, 0, kNan);
    x.set(0, 1, 0);
    const Stored before = x;
    Stored y = empty(type, place);
    auto mask = empty_mask(place);
    const Kernels& kernels = tested_kernels(type);
    kernels.rectify(nullptr, {x.matrix(), y.matrix(), mask.data()});
    const auto expected = [&](std::int64_t row, int c) { return relu(before.get(row, c)); };
    expect_values(type, y, expected, 0);
    for (std::int64_t row = 0; row < place.rows; ++row) {
      for (int c = 0; c < (place.channels + 7) / 8 * 8; ++c) {
        const bool positive = c < place.channels && before.get(row, c) > 0;
        ASSERT_EQ(bit(mask, place, row, c), positive) << row << " " << c;
      }
    }
    kernels.rectify(nullptr, {x.matrix(), x.matrix(), nullptr});  // in place
    expect_values(type, x, expected, 0);

    const auto dx = drawn(type, place, 2), dy = drawn(type, place, 3);
    for (const bool accumulate : {false, true}) {
      Stored sum = dx, from = dy;
      kernels.rectify_backward(nullptr, {from.matrix(), sum.matrix(), mask.data(), accumulate});
      expect_values(type, sum, [&](std::int64_t row, int c) {
        return (accumulate ? dx.get(row, c) : 0) + (before.get(row, c) > 0 ? dy.get(row, c) : 0);
      });
    }
    Stored same = dy;
    kernels.rectify_backward(nullptr, {same.matrix(), same.matrix(), mask.data(), false});
    expect_values(type, same, [&](std::int64_t row, int c) {
      return before.get(row, c) > 0 ? dy.get(row, c) : 0.0;
    });
  });
}

TEST(CudaKernels, SumsCopiesAndBiases) {
  for_types(kPlaces, [](Type type, const Place& place) {
    const Kernels& kernels = tested_kernels(type);
    const Stored a = drawn(type, place, 1), b = drawn(type, place, 2);
    const auto bias = floats(place.channels + 1, 3);
    for (const bool on : {false, true}) {
      SCOPED_TRACE(on);
      Stored one = a, two = b, y = empty(type, place);
      auto mask = empty_mask(place);
      kernels.sum(nullptr,
                  {one.matrix(), two.matrix(), y.matrix(), on, on ? mask.data() : nullptr});
      const auto sum = [&](std::int64_t row, int c) {
        const double x = a.get(row, c) + b.get(row, c);
        return on ? relu(x) : x;
      };
      expect_values(type, y, sum);
      for (int c = 0; on && c < place.channels; ++c) {
        ASSERT_EQ(bit(mask, place, place.rows - 1, c), sum(place.rows - 1, c) > 0);
      }
      kernels.sum(nullptr, {one.matrix(), two.matrix(), two.matrix(), on, nullptr});  // in place
      expect_values(type, two, sum);

      two = b;
      kernels.copy(nullptr, {one.matrix(), two.matrix(), -0.5F, on});
      expect_values(type, two, [&](std::int64_t row, int c) {
        return -0.5 * a.get(row, c) + (on ? b.get(row, c) : 0);
      });

      mask = empty_mask(place);
      const float* values = bias.data() + (on ? 1 : 0);  // parameters lie at any float
      kernels.add_bias(nullptr,
                       {one.matrix(), one.matrix(), values, on, on ? mask.data() : nullptr});
      const auto biased = [&](std::int64_t row, int c) {
        const double x = a.get(row, c) + values[c];
        return on ? relu(x) : x;
      };
      expect_values(type, one, biased);
      for (int c = 0; on && c < place.channels; ++c) {
        ASSERT_EQ(bit(mask, place, 0, c), biased(0, c) > 0);
      }
    }
  });
}

TEST(CudaKernels, BiasGradientSumsRows) {
  for_types(kTall, [](Type type, const Place& place) {
    Stored dy = drawn(type, place, 5);
    std::vector<float> partial(
        static_cast<std::size_t>(sum_blocks(place.rows, place.channels) * place.channels));
    std::vector<float> gradient(static_cast<std::size_t>(place.channels));
    tested_kernels(type).bias_sums(nullptr, {dy.matrix(), partial.data()});
    tested_kernels(type).bias_gradient(
        nullptr, {partial.data(), place.rows, place.channels, gradient.data()});
    expect_close(
        gradient,
        [&](int c) {
          double sum = 0;
          for (std::int64_t row = 0; row < place.rows; ++row) sum += dy.get(row, c);
          return sum;
        },
        1e-6, 1e-7 * static_cast<double>(place.rows));
  });
}

TEST(CudaKernels, DropoutDrawsByElementAndPass) {
  constexpr Place kDense[] = {{37, 8}, {5, 20}, {9, 64}};
  for_types(kDense, [](Type type, const Place& place) {
    const Stored x = drawn(type, place, 1), before = drawn(type, place, 2);
    for (const double probability : {0.0, 0.4, 1.0}) {
      for (const std::vector<std::int64_t>& pass : {std::vector<std::int64_t>{1}, {2}}) {
        for (const bool accumulate : {false, true}) {
          Stored from = x, y = before;
          tested_kernels(type).dropout(
              nullptr, {from.matrix(), y.matrix(), probability, 99, pass.data(), accumulate});
          const std::uint64_t key = splitmix64(99 + static_cast<std::uint64_t>(pass[0]));
          expect_values(type, y, [&](std::int64_t row, int c) {
            const auto element = static_cast<std::uint64_t>(row * place.channels + c);
            const double draw = static_cast<double>(splitmix64(key + element) >> 11) * 0x1p-53;
            return (draw >= probability ? x.get(row, c) / (1 - probability) : 0) +
                   (accumulate ? before.get(row, c) : 0);
          });
        }
      }
    }
  });
}

// --- batch norm ----------------------------------------------------------------------------------

struct Moments {  // of a channel, in two passes
  double mean = 0, variance = 0;
};
Moments moments(const Stored& x, int c) {
  const auto n = static_cast<double>(x.rows());
  Moments m;
  for (std::int64_t row = 0; row < x.rows(); ++row) m.mean += x.get(row, c) / n;
  for (std::int64_t row = 0; row < x.rows(); ++row) {
    m.variance += (x.get(row, c) - m.mean) * (x.get(row, c) - m.mean) / n;
  }
  return m;
}

// What the forward kernels make of x.
struct Statistics {
  Statistics(Type type, Stored& x)
      : weight(floats(x.channels(), 11, 0.4, 1)), bias(floats(x.channels(), 12)) {
    for (auto* v : {&running_mean, &running_variance, &mean, &inverse, &scale, &shift}) {
      v->assign(static_cast<std::size_t>(x.channels()), 2);
    }
    partial.assign(static_cast<std::size_t>(sum_blocks(x.rows(), x.channels()) * 2 * x.channels()),
                   -99);
    tested_kernels(type).norm_sums(nullptr, {x.matrix(), partial.data()});
    finish(type, x, false);
  }
  void finish(Type type, Stored& x, bool summed) {
    tested_kernels(type).norm_statistics(
        nullptr, {partial.data(), summed, x.matrix(), weight.data(), bias.data(),
                  running_mean.data(), running_variance.data(), 0.1, 1e-5, mean.data(),
                  inverse.data(), scale.data(), shift.data()});
  }

  std::vector<float> weight, bias, running_mean, running_variance, mean, inverse, scale, shift;
  std::vector<float> partial;
};

// `running`: what the running statistics were before. `shifted`: the sums were made of x - first
// row; of others the variance is what is left when the square of the mean is taken away.
void expect_statistics(const Statistics& s, const Stored& x, double running, bool shifted) {
  const auto n = static_cast<double>(x.rows());
  for (int c = 0; c < x.channels(); ++c) {
    const auto i = static_cast<std::size_t>(c);
    const Moments m = moments(x, c);
    const double inverse = 1 / std::sqrt(m.variance + 1e-5), scale = s.weight[i] * inverse;
    const double lost = shifted ? 0 : 4e-7 * m.mean * m.mean / m.variance;
    ASSERT_NEAR(s.mean[i], m.mean, 2e-6 * 3);
    ASSERT_NEAR(s.inverse[i] / inverse, 1, 1e-5 + lost);
    ASSERT_NEAR(s.scale[i] / scale, 1, 1e-5 + lost);
    ASSERT_NEAR(s.shift[i], s.bias[i] - m.mean * scale, (1e-4 + 4 * lost) * std::abs(scale));
    ASSERT_NEAR(s.running_mean[i], 0.9 * running + 0.1 * m.mean, 1e-6 * 3);
    ASSERT_NEAR(s.running_variance[i], 0.9 * running + 0.1 * m.variance * n / (n - 1), 1e-5 * 3);
  }
}

TEST(CudaKernels, NormStatistics) {
  for_types(kTall, [](Type type, const Place& place) {
    Stored x = drawn(type, place, 1, 1, 3);
    Statistics s(type, x);
    expect_statistics(s, x, 2, true);
    EXPECT_EQ(s.partial, Statistics(type, x).partial);  // the same bits

    s.partial.assign(static_cast<std::size_t>(2 * place.channels), 0);  // a convolution's sums
    for (int c = 0; c < place.channels; ++c) {
      double sum = 0, squares = 0;
      for (std::int64_t row = 0; row < place.rows; ++row) {
        sum += x.get(row, c);
        squares += x.get(row, c) * x.get(row, c);
      }
      s.partial[static_cast<std::size_t>(c)] = static_cast<float>(sum);
      s.partial[static_cast<std::size_t>(place.channels + c)] = static_cast<float>(squares);
    }
    s.running_mean.assign(s.mean.size(), 5);
    s.running_variance.assign(s.mean.size(), 5);
    s.finish(type, x, true);
    expect_statistics(s, x, 5, false);
  });
}

TEST(CudaKernels, NormStatisticsOfALargeMean) {
  for (const Place& place : {Place{4500, 8}, Place{700, 20}}) {
    Stored x = drawn(Type::kFloat, place, 1, std::sqrt(0.75), 1000);  // deviation 1
    const Statistics s(Type::kFloat, x);
    for (int c = 0; c < place.channels; ++c) {
      const Moments m = moments(x, c);
      ASSERT_NEAR(s.mean[static_cast<std::size_t>(c)], m.mean, 1e-4);
      ASSERT_NEAR(s.inverse[static_cast<std::size_t>(c)], 1 / std::sqrt(m.variance + 1e-5), 2e-5);
    }
  }
}

TEST(CudaKernels, NormStatisticsOfNanAndOfAConstant) {
  for_types([](Type type) {
    Stored x = drawn(type, {300, 9}, 1);
    for (int row = 0; row < 300; ++row) x.set(row, 4, 0.25);
    x.set(217, 7, kNan);
    const Statistics s(type, x);
    EXPECT_EQ(s.mean[4], 0.25F);
    EXPECT_NEAR(s.inverse[4], 1 / std::sqrt(1e-5), 1e-2);
    EXPECT_TRUE(std::isnan(s.mean[7]));
    EXPECT_TRUE(std::isnan(s.scale[7]));
    EXPECT_TRUE(std::isfinite(s.scale[6]) && std::isfinite(s.scale[8]));
  });
}

TEST(CudaKernels, NormFromRunning) {
  for (const int channels : {1, 8, 21}) {
    const auto weight = floats(channels, 1), bias = floats(channels, 2), mean = floats(channels, 3);
    const auto variance = floats(channels, 4, 0.4, 1);
    std::vector<float> scale(weight.size()), shift(weight.size());
    tested_kernels(Type::kHalf)
        .norm_from_running(nullptr, {channels, weight.data(), bias.data(), mean.data(),
                                     variance.data(), 1e-3, scale.data(), shift.data()});
    const auto expected = [&](int c) {
      const auto i = static_cast<std::size_t>(c);
      return weight[i] / std::sqrt(variance[i] + 1e-3);
    };
    expect_close(scale, expected, 1e-6);
    expect_close(
        shift,
        [&](int c) {
          const auto i = static_cast<std::size_t>(c);
          return bias[i] - mean[i] * expected(c);
        },
        1e-6, 1e-6);
  }
}

TEST(CudaKernels, NormApply) {
  for_types(kPlaces, [](Type type, const Place& place) {
    const int n = place.channels;
    const auto scale = floats(n, 1), shift = floats(n, 2);
    const auto residual_scale = floats(n, 3), residual_shift = floats(n, 4);
    Stored x = drawn(type, place, 5), r = drawn(type, {place.rows, n}, 6);
    x.set(0, 0, kNan);
    for (int form = 0; form < 6; ++form) {  // three kinds of residual, with and without ReLU
      SCOPED_TRACE(form);
      const int residual = form / 2;
      const bool rectify = form % 2 == 1;
      Stored y = empty(type, place);
      auto mask = empty_mask(place);
      NormApply k{.x = x.matrix(), .y = y.matrix(), .scale = scale.data(), .shift = shift.data()};
      k.relu = rectify;
      if (rectify) k.mask = mask.data();
      if (residual > 0) k.residual = r.matrix();
      if (residual == 2) {
        k.residual_scale = residual_scale.data();
        k.residual_shift = residual_shift.data();
      }
      tested_kernels(type).norm_apply(nullptr, k);
      const auto expected = [&](std::int64_t row, int c) {
        const auto i = static_cast<std::size_t>(c);
        double v = x.get(row, c) * scale[i] + shift[i];
        if (residual == 1) v += r.get(row, c);
        if (residual == 2) v += r.get(row, c) * residual_scale[i] + residual_shift[i];
        return rectify ? relu(v) : v;
      };
      expect_values(type, y, expected);
      for (std::int64_t row = 0; rectify && row < place.rows; ++row) {
        for (int c = 0; c < n; ++c) {
          if (std::abs(expected(row, c)) < 1e-5 && expected(row, c) > 0) continue;  // either
          ASSERT_EQ(bit(mask, place, row, c), expected(row, c) > 0) << row << " " << c;
        }
      }
    }
  });
}

// One way to go backward through a norm, or through two that were added and rectified together.
struct BackwardForm {
  bool mask, writes_masked, two_norms, in_place;
};

struct NormBackwardTest {
  NormBackwardTest(Type type_given, const Place& place_given, const BackwardForm& form_given)
      : type(type_given), place(place_given), form(form_given), gradient(drawn(type, place, 4)) {
    const auto bits = drawn_mask(place, 3);
    if (form.mask) mask = bits;
    for (std::int64_t row = 0; row < place.rows; ++row) {
      for (int c = 0; c < place.channels; ++c) {
        const bool kept = !form.mask || bit(bits, place, row, c);
        g.push_back(kept ? gradient.get(row, c) : 0.0);
      }
    }
  }

  void add_up(Stored& x, const Statistics& s, Stored& second, const Statistics& s2) {
    partial.assign(
        static_cast<std::size_t>(sum_blocks(place.rows, place.channels) * sums() * place.channels),
        -99);
    NormBackwardSums k{.dy = gradient.matrix(),
                       .x = x.matrix(),
                       .mask = form.mask ? mask.data() : nullptr,
                       .mean = s.mean.data(),
                       .partial = partial.data()};
    if (form.two_norms) k.residual_x = second.matrix(), k.residual_mean = s2.mean.data();
    if (form.writes_masked) k.masked = gradient.matrix();
    tested_kernels(type).norm_backward_sums(nullptr, k);
    if (form.writes_masked) {
      expect_values(
          type, gradient, [&](std::int64_t row, int c) { return at(row, c); }, 0);
    }
  }

  // The norm of `input`, whose sum is number `which`.
  void expect_gradients(Stored& input, const Statistics& s, int which) {
    std::vector<float> dw(s.weight.size()), db(dw), a(dw), b(dw), c(dw);
    const Kernels& kernels = tested_kernels(type);
    kernels.norm_backward_statistics(
        nullptr, {partial.data(), sums(), which, place.rows, place.channels, s.weight.data(),
                  s.inverse.data(), dw.data(), db.data(), a.data(), b.data(), c.data()});
    Stored other = empty(type, place);
    Stored& dx = form.in_place ? gradient : other;
    kernels.norm_backward_apply(nullptr, {gradient.matrix(), input.matrix(), dx.matrix(),
                                          form.mask && !form.writes_masked ? mask.data() : nullptr,
                                          s.mean.data(), a.data(), b.data(), c.data()});
    EXPECT_TRUE(dx.others_untouched());
    for (int channel = 0; channel < place.channels; ++channel) {
      const auto i = static_cast<std::size_t>(channel);
      expect_channel(input, dx, channel, s.weight[i], dw[i], db[i]);
      if (::testing::Test::HasFailure()) return;
    }
  }

  void expect_channel(const Stored& input, const Stored& dx, int c, double weight, double dw,
                      double db) const {
    const Moments m = moments(input, c);
    const auto n = static_cast<double>(place.rows);
    const double inverse = 1 / std::sqrt(m.variance + 1e-5);
    double sum = 0, product = 0;
    for (std::int64_t row = 0; row < place.rows; ++row) {
      sum += at(row, c);
      product += at(row, c) * (input.get(row, c) - m.mean) * inverse;
    }
    EXPECT_NEAR(db, sum, 1e-6 * n);
    EXPECT_NEAR(dw, product, 4e-6 * n * inverse);
    for (std::int64_t row = 0; row < place.rows; row += 1 + place.rows / 97) {
      const double normalized = (input.get(row, c) - m.mean) * inverse;
      const double want = weight * inverse * (at(row, c) - sum / n - normalized * product / n);
      ASSERT_NEAR(dx.get(row, c), want, tolerance(type, want, 10 * inverse)) << row << " " << c;
    }
  }

  double at(std::int64_t row, int c) const {  // what ReLU lets through
    return g[static_cast<std::size_t>(row * place.channels + c)];
  }
  int sums() const { return form.two_norms ? 3 : 2; }

  Type type;
  Place place;
  BackwardForm form;
  Stored gradient;
  std::vector<std::uint8_t> mask;
  std::vector<double> g;
  std::vector<float> partial;
};

TEST(CudaKernels, NormBackward) {
  constexpr BackwardForm kForms[] = {{.mask = false},
                                     {.mask = true, .in_place = true},
                                     {.mask = true, .writes_masked = true},
                                     {.mask = true, .writes_masked = true, .two_norms = true}};
  for_types(kTall, [&](Type type, const Place& place) {
    Stored x = drawn(type, place, 1, 1, 2), second = drawn(type, {place.rows, place.channels}, 2);
    const Statistics s(type, x), s2(type, second);
    for (const BackwardForm& form : kForms) {
      SCOPED_TRACE(&form - kForms);
      NormBackwardTest t(type, place, form);
      t.add_up(x, s, second, s2);
      t.expect_gradients(x, s, 1);
      if (form.two_norms) t.expect_gradients(second, s2, 2);
    }
  });
}

TEST(CudaKernels, SumsFillTheMachineWithoutFloodingMemory) {
  EXPECT_GE(sum_blocks(3211264, 64), 264);      // 256 pictures of 112 x 112
  EXPECT_GE(sum_blocks(12544, 2048) * 8, 264);  // each in 8 tiles of channels
  EXPECT_EQ(sum_blocks(2, 3), 1);
  EXPECT_EQ(sum_blocks(256, 21841), 4);
  for (const std::int64_t rows : {1LL, 1000LL, 100000000LL}) {
    for (const int channels : {1, 64, 2048, 21841}) {
      ASSERT_LE(sum_blocks(rows, channels), 1024) << rows << " " << channels;
    }
  }
}

// --- pools ---------------------------------------------------------------------------------------

struct PoolCase {
  int height, width, out_height, out_width;
  Windows windows;
};
const PoolCase kPools[] = {
    {7, 9, 4, 5, {3, 2, 1}},     // overlapping, padded
    {6, 7, 3, 3, {2, 2, 0}},     // a last column that no window covers
    {8, 8, 4, 4, {3, 2, 0}},     // rounded up: the last windows leave the picture
    {5, 5, 5, 5, {3, 1, 1}},     // as many as before
    {17, 16, 2, 2, {15, 9, 7}},  // the largest kernel
    {4, 4, 2, 2, {1, 2, 0}},     // gaps between windows
};
const PoolCase kAdaptive[] = {
    {7, 5, 3, 2, {.adaptive = true}},  // overlapping
    {6, 6, 3, 3, {.adaptive = true}},  // not
    {7, 7, 1, 1, {.adaptive = true}},  // all of it
    {2, 3, 4, 5, {.adaptive = true}},  // more outputs than inputs
};
const Place kPoolChannels[] = {{0, 3}, {0, 8}, {0, 24, 64, 16}, {0, 20}, {0, 16, 41, 3}};

struct PoolTest {
  PoolTest(Type type_given, const PoolCase& pool, const Place& place)
      : type(type_given),
        p(pool),
        small{2 * pool.out_height * pool.out_width, place.channels, place.stride, place.first},
        large{2 * pool.height * pool.width, place.channels},
        x(drawn(type, large, 1)),
        y(empty(type, small)),
        dy(drawn(type, small, 2)),
        dx(drawn(type, large, 3)) {}

  Picture in(Stored& of) const { return {of.matrix(), 2, p.height, p.width}; }
  Picture out(Stored& of) const { return {of.matrix(), 2, p.out_height, p.out_width}; }
  std::int64_t in_row(int image, int h, int w) const {
    return (image * p.height + h) * p.width + w;
  }

  // body(image, output row, [h, h end), [w, w end)) for every output.
  template <class Body>
  void for_outputs(const Body& body) const {
    for (int image = 0; image < 2; ++image) {
      for (int oh = 0; oh < p.out_height; ++oh) {
        for (int ow = 0; ow < p.out_width; ++ow) {
          const auto h = range(oh, p.out_height, p.height), w = range(ow, p.out_width, p.width);
          body(image, (image * p.out_height + oh) * p.out_width + ow, h, w);
        }
      }
    }
  }
  struct Range {
    int first, last, start;
  };
  Range range(int out, int outs, int extent) const {
    if (p.windows.adaptive) {
      const auto share = static_cast<double>(extent) / outs;
      const int first = static_cast<int>(std::floor(out * share + 1e-9));
      return {first, static_cast<int>(std::ceil((out + 1) * share - 1e-9)), first};
    }
    const int start = out * p.windows.stride - p.windows.pad;
    return {std::max(start, 0), std::min(start + p.windows.kernel, extent), start};
  }

  Type type;
  PoolCase p;
  Place small, large;
  Stored x, y, dy, dx;
};

template <std::size_t kCount, class Body>
void for_pools(const PoolCase (&pools)[kCount], const Body& body) {
  for (std::size_t i = 0; i < kCount; ++i) {
    SCOPED_TRACE("pool " + std::to_string(i));
    for_types(kPoolChannels, [&](Type type, const Place& place) { body(type, pools[i], place); });
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(CudaKernels, MaxPool) {
  for_pools(kPools, [](Type type, const PoolCase& pool, const Place& place) {
    PoolTest t(type, pool, place);
    // Equal values, a NaN, and nothing but minus infinity.
    t.x.fill([&](std::int64_t row, int c) {
      return c == 1 ? -kInfinity : row % 5 == 0 ? 0.5 : t.x.get(row, c);
    });
    t.x.set(t.in_row(1, 2, 3), 0, kNan);
    std::vector<std::uint8_t> winner(static_cast<std::size_t>(t.small.rows * place.channels), 255);
    const Kernels& kernels = tested_kernels(type);
    kernels.max_pool(nullptr, {t.in(t.x), t.out(t.y), pool.windows, winner.data()});

    Stored expected = t.y, plain = empty(type, t.large);
    plain.fill([](std::int64_t, int) { return 0; });
    std::vector<double> gradient(static_cast<std::size_t>(t.large.rows * place.channels));
    t.for_outputs([&](int image, int row, const PoolTest::Range& h, const PoolTest::Range& w) {
      for (int c = 0; c < place.channels; ++c) {
        std::int64_t best = -1;
        int at = 0;
        for (int ih = h.first; ih < h.last; ++ih) {
          for (int iw = w.first; iw < w.last; ++iw) {
            const std::int64_t here = t.in_row(image, ih, iw);
            const double v = t.x.get(here, c);
            if (best >= 0 && !(v > t.x.get(best, c)) && !std::isnan(v)) continue;
            best = here;
            at = (ih - h.start) * pool.windows.kernel + iw - w.start;
          }
        }
        expected.set(row, c, t.x.get(best, c));
        ASSERT_EQ(winner[static_cast<std::size_t>(row * place.channels + c)], at)
            << row << " " << c;
        gradient[static_cast<std::size_t>(best * place.channels + c)] += t.dy.get(row, c);
      }
    });
    expect_values(
        type, t.y, [&](std::int64_t row, int c) { return expected.get(row, c); }, 0);
    for (const bool accumulate : {false, true}) {
      Stored dx = t.dx;
      kernels.max_pool_backward(nullptr,
                                {t.out(t.dy), t.in(dx), pool.windows, winner.data(), accumulate});
      expect_values(type, dx, [&](std::int64_t row, int c) {
        return gradient[static_cast<std::size_t>(row * place.channels + c)] +
               (accumulate ? t.dx.get(row, c) : 0);
      });
    }
    Stored again = empty(type, t.small);
    kernels.max_pool(nullptr, {t.in(t.x), t.out(again), pool.windows, nullptr});
    expect_values(
        type, again, [&](std::int64_t row, int c) { return expected.get(row, c); }, 0);
  });
}

void expect_average_pool(Type type, const PoolCase& pool, const Place& place) {
  PoolTest t(type, pool, place);
  const Kernels& kernels = tested_kernels(type);
  kernels.average_pool(nullptr, {t.in(t.x), t.out(t.y), pool.windows});
  std::vector<double> mean(static_cast<std::size_t>(t.small.rows * place.channels));
  std::vector<double> gradient(static_cast<std::size_t>(t.large.rows * place.channels));
  t.for_outputs([&](int image, int row, const PoolTest::Range& h, const PoolTest::Range& w) {
    const double size = pool.windows.adaptive ? (h.last - h.first) * (w.last - w.first)
                                              : pool.windows.kernel * pool.windows.kernel;
    for (int ih = h.first; ih < h.last; ++ih) {
      for (int iw = w.first; iw < w.last; ++iw) {
        const std::int64_t in = t.in_row(image, ih, iw);
        for (int c = 0; c < place.channels; ++c) {
          mean[static_cast<std::size_t>(row * place.channels + c)] += t.x.get(in, c) / size;
          gradient[static_cast<std::size_t>(in * place.channels + c)] += t.dy.get(row, c) / size;
        }
      }
    }
  });
  expect_values(type, t.y, [&](std::int64_t row, int c) {
    return mean[static_cast<std::size_t>(row * place.channels + c)];
  });
  for (const bool accumulate : {false, true}) {
    Stored dx = t.dx;
    kernels.average_pool_backward(nullptr, {t.out(t.dy), t.in(dx), pool.windows, accumulate});
    expect_values(type, dx, [&](std::int64_t row, int c) {
      return gradient[static_cast<std::size_t>(row * place.channels + c)] +
             (accumulate ? t.dx.get(row, c) : 0);
    });
  }
}
TEST(CudaKernels, AveragePoolCountsPadding) { for_pools(kPools, expect_average_pool); }
TEST(CudaKernels, AdaptiveAveragePool) { for_pools(kAdaptive, expect_average_pool); }

// --- response norm -------------------------------------------------------------------------------

TEST(CudaKernels, ResponseNorm) {
  for (const int size : {1, 4, 5, 9}) {
    SCOPED_TRACE(size);
    for_types(kPlaces, [&](Type type, const Place& place) {
      const int n = place.channels, before = size / 2, after = (size - 1) / 2;
      const double alpha = 0.3, beta = size == 4 ? 0.5 : 0.75, k = 2;
      Stored x = drawn(type, place, 1), dy = drawn(type, place, 2), y = empty(type, place);
      const Kernels& kernels = tested_kernels(type);
      kernels.response_norm(nullptr, {x.matrix(), y.matrix(), size, alpha, beta, k});
      const auto s = [&](std::int64_t row, int c) {
        double squares = 0;
        for (int j = std::max(0, c - before); j <= std::min(n - 1, c + after); ++j) {
          squares += x.get(row, j) * x.get(row, j);
        }
        return k + alpha / size * squares;
      };
      expect_values(type, y, [&](std::int64_t row, int c) {
        return x.get(row, c) * std::pow(s(row, c), -beta);
      });
      const Stored old = drawn(type, place, 3);
      for (const bool accumulate : {false, true}) {
        Stored dx = old;
        kernels.response_norm_backward(
            nullptr, {dy.matrix(), x.matrix(), dx.matrix(), size, alpha, beta, k, accumulate});
        expect_values(type, dx, [&](std::int64_t row, int c) {
          double sum =
              (accumulate ? old.get(row, c) : 0) + dy.get(row, c) * std::pow(s(row, c), -beta);
          for (int j = 0; j < n; ++j) {
            if (c < j - before || c > j + after) continue;  // c is not in the window of j
            sum -= 2 * alpha * beta / size * x.get(row, c) * dy.get(row, j) * x.get(row, j) *
                   std::pow(s(row, j), -beta - 1);
          }
          return sum;
        });
      }
    });
  }
}

// --- loss ----------------------------------------------------------------------------------------

TEST(CudaKernels, SoftmaxCrossEntropy) {
  for_types([](Type type) {
    for (const int classes : {2, 10, 257, 1000, 21841}) {
      SCOPED_TRACE(classes);
      const int rows = classes > 1000 ? 2 : 5;
      auto logits = floats(rows * classes, 1, 3);
      for (int c = 0; c < classes; ++c) logits[static_cast<std::size_t>(c)] += 20000;  // overflow?
      std::vector<std::int32_t> labels(static_cast<std::size_t>(rows));
      for (int row = 0; row < rows; ++row)
        labels[static_cast<std::size_t>(row)] = row * 31 % classes;
      std::vector<StepState> states(1);
      StepState& state = states[0];
      state.loss_scale = 128;
      std::vector<float> losses(labels.size());
      Stored gradient(type, rows, classes, classes + 3);
      CrossEntropy k{LossForm::kSoftmax, logits.data(), rows, classes, labels.data(), 0.3, &state};
      k.row_loss = losses.data();
      tested_kernels(type).cross_entropy(nullptr, k);  // the loss alone
      const auto alone = losses;
      k.d_logits = gradient.matrix();
      tested_kernels(type).cross_entropy(nullptr, k);
      EXPECT_EQ(losses, alone);
      std::vector<double> total(labels.size());
      for (int row = 0; row < rows; ++row) {
        const float* z = logits.data() + row * classes;
        const double largest = *std::max_element(z, z + classes);
        double sum = 0;
        for (int c = 0; c < classes; ++c) sum += std::exp(z[c] - largest);
        const auto i = static_cast<std::size_t>(row);
        total[i] = largest + std::log(sum);
        const double want = 0.3 / rows * (total[i] - z[labels[i]]);
        ASSERT_NEAR(losses[i], want, 1e-6 * std::abs(want) + 1e-6);
      }
      expect_values(
          type, gradient,
          [&](std::int64_t row, int c) {
            const auto i = static_cast<std::size_t>(row);
            const double z =
                logits[i * static_cast<std::size_t>(classes) + static_cast<std::size_t>(c)];
            return 128 * 0.3 / rows * (std::exp(z - total[i]) - (c == labels[i]));
          },
          1);
    }
  });
}

TEST(CudaKernels, CrossEntropyOfNanAndOfNoClass) {
  for_types([](Type type) {
    auto logits = floats(3 * 300, 1);
    logits[300 + 280] = static_cast<float>(kNan);
    const std::vector<std::int32_t> labels{4, 0, 300};
    std::vector<StepState> states(1);
    StepState& state = states[0];
    std::vector<float> losses(3);
    Stored gradient(type, 3, 304);
    CrossEntropy k{LossForm::kSoftmax, logits.data(), 3, 300, labels.data(), 1, &state};
    k.d_logits = gradient.matrix(), k.row_loss = losses.data();
    tested_kernels(type).cross_entropy(nullptr, k);
    EXPECT_TRUE(std::isfinite(losses[0]));
    EXPECT_TRUE(std::isnan(losses[1]));
    EXPECT_TRUE(std::isnan(losses[2]));
    EXPECT_TRUE(std::isnan(gradient.get(1, 7)));
    EXPECT_EQ(gradient.get(0, 301), 0);  // columns that are no class
  });
}

TEST(CudaKernels, SigmoidCrossEntropyAndSumOfLosses) {
  for_types([](Type type) {
    const std::vector<float> logits{0.3F, -2, 100, -100, 5};
    const std::vector<std::int32_t> labels{1, 0, 1, 1, 0};
    std::vector<StepState> states(1);
    StepState& state = states[0];
    state.loss_scale = 4;
    std::vector<float> losses(5);
    Stored gradient(type, 5, 1, 8);
    CrossEntropy k{LossForm::kSigmoid, logits.data(), 5, 1, labels.data(), 2, &state};
    k.d_logits = gradient.matrix(), k.row_loss = losses.data();
    tested_kernels(type).cross_entropy(nullptr, k);
    double sum = 0;
    for (int row = 0; row < 5; ++row) {
      const double z = logits[static_cast<std::size_t>(row)];
      const double want = 2.0 / 5 *
                          (std::log1p(std::exp(-std::abs(z))) + relu(z) -
                           z * labels[static_cast<std::size_t>(row)]);
      ASSERT_NEAR(losses[static_cast<std::size_t>(row)], want, 1e-6 * std::abs(want) + 1e-7);
      sum += losses[static_cast<std::size_t>(row)];
    }
    expect_values(type, gradient, [&](std::int64_t row, int) {
      return 4 * 2.0 / 5 * (1 / (1 + std::exp(-static_cast<double>(logits[row]))) - labels[row]);
    });
    tested_kernels(type).loss_sum(nullptr, {losses.data(), 5, &state});
    EXPECT_NEAR(state.loss, sum, 1e-12);
  });
  const auto many = floats(1000, 1);
  std::vector<StepState> states(1);
  StepState& state = states[0];
  tested_kernels(Type::kFloat).loss_sum(nullptr, {many.data(), 1000, &state});
  EXPECT_NEAR(state.loss, std::accumulate(many.begin(), many.end(), 0.0), 1e-9);
}

// --- optimizer -----------------------------------------------------------------------------------

TEST(CudaKernels, SgdUpdatesUnlessGradientsOverflowed) {
  for (const Type type : kTypes) {
    for (const int count : {3, 16, 61}) {
      for (const int offset : {0, 1}) {
        SCOPED_TRACE(std::string(name_of(type)) + " " + std::to_string(count));
        const auto w = floats(count + offset, 1), v = floats(count + offset, 2);
        const auto g = floats(count + offset, 3);
        auto weights = w, velocities = v;
        Stored narrow(type, count, 1);
        narrow.fill([](std::int64_t, int) { return 9; });
        std::vector<StepState> states(1);
        StepState& state = states[0];
        state.learning_rate = 0.1F, state.momentum = 0.9F, state.weight_decay = 0.01F;
        const Sgd k{weights.data() + offset,
                    velocities.data() + offset,
                    g.data() + offset,
                    narrow.matrix().data,
                    count,
                    &state};
        state.overflow = 1;
        tested_kernels(type).sgd(nullptr, k);
        EXPECT_EQ(weights, w);
        EXPECT_EQ(velocities, v);
        EXPECT_EQ(narrow.get(0, 0), 9);
        state.overflow = 0;
        state.gradient_scale = 4;
        tested_kernels(type).sgd(nullptr, k);
        for (int i = 0; i < count; ++i) {
          const auto at = static_cast<std::size_t>(i + offset);
          const double velocity = 0.9F * v[at] + (g[at] / 4 + 0.01F * w[at]);
          ASSERT_NEAR(velocities[at], velocity, 1e-6);
          ASSERT_NEAR(weights[at], w[at] - 0.1F * velocity, 1e-6);
          ASSERT_EQ(narrow.get(i, 0), rounded(type, weights[at]));
        }
        EXPECT_EQ(weights[0] == w[0], offset == 1);
        Sgd plain = k;
        plain.narrow = nullptr;
        tested_kernels(type).sgd(nullptr, plain);
      }
    }
  }
}

TEST(CudaKernels, UnscaleAndFindOverflow) {
  const Kernels& kernels = tested_kernels(Type::kHalf);
  for (const int count : {5, 64, 77}) {
    SCOPED_TRACE(count);
    const auto before = floats(count, 1);
    auto gradients = before;
    std::vector<StepState> states(1);
    StepState& state = states[0];
    state.loss_scale = 1024;
    kernels.unscale(nullptr, {gradients.data(), count, &state});
    expect_close(
        gradients, [&](int i) { return before[static_cast<std::size_t>(i)] / 1024.0; }, 0);
    for (const double bad : {kNan, kInfinity, -kInfinity}) {
      for (const int at : {0, count / 2, count - 1}) {
        gradients = before;
        gradients[static_cast<std::size_t>(at)] = static_cast<float>(bad);
        state.overflow = 0;
        kernels.find_overflow(nullptr, {gradients.data(), count, &state});
        ASSERT_EQ(state.overflow, 1) << bad << " at " << at;
      }
    }
    kernels.find_overflow(nullptr, {before.data(), count, &state});
    EXPECT_EQ(state.overflow, 0);
    EXPECT_EQ(state.gradient_scale, 1);
    kernels.find_overflow(nullptr, {before.data(), count, &state, true});
    EXPECT_EQ(state.gradient_scale, 1024);
  }
}

TEST(CudaKernels, LossScaleHalvesAndDoubles) {
  const Kernels& kernels = tested_kernels(Type::kHalf);
  std::vector<StepState> states(1);
  StepState& state = states[0];
  state.loss_scale = 4;
  state.good_steps = 7;
  for (const float scale : {2.0F, 1.0F, 1.0F}) {
    state.overflow = 1;
    kernels.adjust_scale(nullptr, {&state});
    EXPECT_EQ(state.loss_scale, scale);
    EXPECT_EQ(state.overflow, 0);
    EXPECT_EQ(state.good_steps, 0);
  }
  EXPECT_EQ(state.skipped, 3);
  for (int i = 0; i < 1999; ++i) kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 1);
  kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 2);
  for (int i = 0; i < 1999; ++i) kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 2);
  state.loss_scale = 65536.0F * 256;
  kernels.adjust_scale(nullptr, {&state});
  EXPECT_EQ(state.loss_scale, 65536.0F * 256);
  EXPECT_EQ(state.skipped, 3);
}

// --- refusals ------------------------------------------------------------------------------------

TEST(CudaKernels, RefuseWhatTheyCannotDo) {
  const Kernels& kernels = tested_kernels(Type::kHalf);
  Stored a = drawn(Type::kHalf, {4, 8}, 1), b = drawn(Type::kHalf, {5, 8}, 2);
  EXPECT_THROW(kernels.rectify(nullptr, {a.matrix(), b.matrix(), nullptr}), std::invalid_argument);
  Matrix large = a.matrix();
  large.rows = 1LL << 31;
  EXPECT_THROW(kernels.rectify(nullptr, {large, large, nullptr}), std::invalid_argument);
  const Picture x{a.matrix(), 1, 2, 2}, y{b.matrix(), 1, 5, 1};
  EXPECT_THROW(kernels.max_pool(nullptr, {x, y, {16, 1, 0}, nullptr}), std::invalid_argument);
  EXPECT_THROW(kernels.max_pool(nullptr, {x, y, {.adaptive = true}, nullptr}),
               std::invalid_argument);
  EXPECT_THROW(kernels.average_pool(nullptr, {x, y, {2, 2, 2}}), std::invalid_argument);
  EXPECT_THROW(kernels.response_norm(nullptr, {a.matrix(), a.matrix(), 11}), std::invalid_argument);
  const PictureWindow window;
  const std::uint8_t byte = 0;
  EXPECT_THROW(kernels.load_raw_pictures(nullptr, {&byte, &window, 1, x}), std::invalid_argument);
  EXPECT_THROW(kernels.load_raw_pictures(nullptr, {&byte, nullptr, 2, x}), std::invalid_argument);
  try {
    kernels.copy(nullptr, {a.matrix(), b.matrix()});
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "copy: matrices differ in rows or channels");
  }
}

}  // namespace
}  // namespace rackmark::worker::cuda::testing
