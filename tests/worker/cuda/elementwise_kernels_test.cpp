// Kernels over single values: numbers as they are stored, pictures, sums, masks, biases, dropout.
#include "tests/worker/cuda/kernel_cases.hpp"
#include "worker/backend/cuda/kernels/rows.hpp"
#include "worker/net/net.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker::cuda::testing {
namespace {

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

// A body that counts how often it is given each group of each row.
struct Counting {
  using Access = bodies::Vectors<float>;
  static constexpr int kInFlight = 2;
  std::vector<int>* seen;
  int groups;
  bodies::Nothing begin(bodies::Span) const { return {}; }
  bodies::Nothing load(bodies::Nothing, bodies::Span, unsigned) const { return {}; }
  void finish(bodies::Nothing, bodies::Span span, unsigned row, bodies::Nothing) const {
    ++seen->at(row * static_cast<unsigned>(groups) + static_cast<unsigned>(span.first) / 8);
  }
};

// Whatever the grid.
TEST(CudaKernels, EveryRowIsWalkedOnce) {
  for (const std::int64_t rows : {1, 2, 7, 100, 1001}) {
    for (const int groups : {1, 3, 8, 40}) {
      for (const std::int64_t lanes : {1, 2, 5, 64, 2000}) {
        for (const std::int64_t segment_threads : {1, 16, 100, 100000}) {
          SCOPED_TRACE(std::to_string(rows) + " " + std::to_string(groups) + " " +
                       std::to_string(lanes) + " " + std::to_string(segment_threads));
          const std::int64_t threads = lanes * groups + groups / 2;
          const bodies::Walk walk = bodies::walk_over(rows, groups * 8, threads, segment_threads);
          std::vector<int> seen(static_cast<std::size_t>(rows * groups));
          for (std::int64_t t = 0; t < threads; ++t) {
            bodies::walk_rows(Counting{&seen, groups}, walk, static_cast<unsigned>(t));
          }
          ASSERT_EQ(std::count(seen.begin(), seen.end(), 1), std::ssize(seen));
        }
      }
    }
  }
}

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

}  // namespace
}  // namespace rackmark::worker::cuda::testing
