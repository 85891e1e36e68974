// Kernels of 8-bit integers: what floats give, rounded.
#include "tests/worker/cuda/kernel_cases.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker::cuda::testing {
namespace {

Stored drawn_integers(const Place& p) {
  Draws draw;  // times 64 also 128, which is too large
  return empty(Type::kInteger, p).fill([&](std::int64_t, int) { return 64 * draw(); });
}
void expect_rounded(const Stored& integers, const Stored& floats) {
  EXPECT_TRUE(integers.others_untouched());
  for (std::int64_t row = 0; row < integers.rows(); ++row) {
    for (int c = 0; c < integers.channels(); ++c) {
      ASSERT_EQ(integers.get(row, c), rounded(Type::kInteger, floats.get(row, c)))
          << "row " << row << " channel " << c << " of " << floats.get(row, c);
    }
  }
}

TEST(IntegerKernels, ValuesBecomeTheNearestInteger) {
  for_types(kPlaces, [](Type type, const Place& place) {
    const Place dense{place.rows, place.channels};
    for (const bool into_concat : {false, true}) {
      Stored from = drawn(type, into_concat ? dense : place, 1);
      from.set(0, 0, 1.25);  // times the factor half way between two integers
      from.set(0, 1, -1.75);
      from.set(0, 2, kInfinity);
      Stored to = empty(Type::kInteger, into_concat ? place : dense);
      Stored products = empty(Type::kFloat, dense);
      tested_kernels(type).to_integers(nullptr, {from.matrix(), to.matrix(), 90});
      products.fill(
          [&](std::int64_t row, int c) { return static_cast<float>(from.get(row, c)) * 90.0F; });
      expect_rounded(to, products);
    }
  });
  Stored from = drawn(Type::kFloat, {2, 8}, 1), to = empty(Type::kInteger, {2, 7});
  EXPECT_THROW(tested_kernels(Type::kFloat).to_integers(nullptr, {from.matrix(), to.matrix(), 1}),
               std::invalid_argument);
}

TEST(IntegerKernels, NarrowAndWiden) {
  for (const std::int64_t count : {1, 7, 8, 1003}) {
    auto values = floats(static_cast<int>(count), 1, 70);
    Stored integers = empty(Type::kInteger, {count, 1});
    std::vector<float> back(values.size(), -1);
    const Kernels& kernels = tested_kernels(Type::kInteger);
    kernels.narrow(nullptr, {values.data(), integers.matrix().data, count});
    kernels.widen(nullptr, {integers.matrix().data, back.data(), count});
    expect_close(
        back, [&](int i) { return rounded(Type::kInteger, values[std::size_t(i)]); }, 0);
  }
}

// In their own steps, as the floats that they stand for.
TEST(IntegerKernels, PicturesAreScaled) {
  constexpr int kSide = 9, kSize = 5, kCount = 3, kChannels = 16;
  constexpr float kFactor = 41;
  const std::vector<PictureWindow> windows{{0, 0, 0}, {4, 1, 1}, {2, 4, 0}};
  Draws draw;
  std::vector<std::uint8_t> pixels(kCount * kSide * kSide * 3);
  for (auto& byte : pixels) byte = static_cast<std::uint8_t>(draw.bits());
  std::vector<float> images(kCount * kSize * kSize * 3);
  normalise({pixels, windows, kSide}, kSize, images);
  const Place place{kCount * kSize * kSize, kChannels};
  Stored wanted = empty(Type::kFloat, place);
  wanted.fill([&](std::int64_t row, int c) {
    constexpr std::int64_t kPlane = kSize * kSize;
    if (c >= 3) return 0.0F;
    return images[static_cast<std::size_t>((row / kPlane * 3 + c) * kPlane + row % kPlane)] *
           kFactor;
  });
  const Kernels& kernels = tested_kernels(Type::kInteger);
  Stored from_floats = empty(Type::kInteger, place), from_bytes = empty(Type::kInteger, place);
  kernels.load_pictures(nullptr,
                        {images.data(), 3, {from_floats.matrix(), kCount, kSize, kSize}, kFactor});
  expect_rounded(from_floats, wanted);
  kernels.load_raw_pictures(
      nullptr,
      {pixels.data(), windows.data(), kSide, {from_bytes.matrix(), kCount, kSize, kSize}, kFactor});
  expect_rounded(from_bytes, wanted);
}

TEST(IntegerKernels, PoolsAndCopiesRoundWhatFloatsGive) {
  constexpr int kImages = 2, kIn = 9, kOut = 5;
  const Windows windows{3, 2, 1};
  for (const Place& p : {Place{0, 8}, Place{0, 20}, Place{0, 16, 48, 8}, Place{0, 16, 41, 3}}) {
    SCOPED_TRACE(p.text());
    const Place large{kImages * kIn * kIn, p.channels};
    const Place small{kImages * kOut * kOut, p.channels, p.stride, p.first};
    Stored in[] = {drawn_integers(large), empty(Type::kFloat, large)};
    in[1].fill([&](std::int64_t row, int c) { return in[0].get(row, c); });
    enum { kMax, kAverage, kCopy, kKinds };
    for (int kind = 0; kind < kKinds; ++kind) {
      SCOPED_TRACE(kind);
      const Place& place = kind == kCopy ? large : small;
      Stored out[] = {empty(Type::kInteger, place), empty(Type::kFloat, place)};
      for (const int i : {0, 1}) {
        const Kernels& kernels = tested_kernels(i == 0 ? Type::kInteger : Type::kFloat);
        const Picture x{in[i].matrix(), kImages, kIn, kIn}, y{out[i].matrix(), kImages, kOut, kOut};
        if (kind == kMax) kernels.max_pool(nullptr, {x, y, windows, nullptr});
        if (kind == kAverage) kernels.average_pool(nullptr, {x, y, windows});
        if (kind == kCopy) kernels.copy(nullptr, {in[i].matrix(), out[i].matrix()});
      }
      expect_rounded(out[0], out[1]);
    }
  }
}

}  // namespace
}  // namespace rackmark::worker::cuda::testing
