// Kernels over windows: pools and response norm.
#include "tests/worker/cuda/kernel_cases.hpp"

namespace rackmark::worker::cuda::testing {
namespace {

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

// Batch norm, ReLU and max pool in one, against loops over every window.
TEST(CudaKernels, NormMaxPoolAndItsWayBack) {
  for_pools(kPools, [](Type type, const PoolCase& pool, const Place& place) {
    PoolTest t(type, pool, place);
    t.x.set(t.in_row(1, 2, 3), 0, kNan);
    const int channels = place.channels;
    const auto scale = floats(channels, 4), shift = floats(channels, 5, 0.5),
               mean = floats(channels, 6);
    std::vector<std::uint8_t> winner(static_cast<std::size_t>(t.small.rows * channels), 77);
    const Kernels& kernels = tested_kernels(type);
    kernels.norm_max_pool(
        nullptr, {t.in(t.x), t.out(t.y), pool.windows, scale.data(), shift.data(), winner.data()});
    const auto normed = [&](std::int64_t row, int c) {
      const double v = t.x.get(row, c) * scale[std::size_t(c)] + shift[std::size_t(c)];
      return v < 0 ? 0.0 : v;
    };
    Stored expected(Type::kFloat, t.small.rows, channels);
    std::vector<double> g(static_cast<std::size_t>(t.large.rows * channels));
    t.for_outputs([&](int image, int row, const PoolTest::Range& h, const PoolTest::Range& w) {
      for (int c = 0; c < channels; ++c) {
        double best = -kInfinity, at_winner = kNan;
        const auto index = static_cast<std::size_t>(row * channels + c);
        for (int ih = h.first; ih < h.last; ++ih) {
          for (int iw = w.first; iw < w.last; ++iw) {
            const std::int64_t here = t.in_row(image, ih, iw);
            const double v = normed(here, c);
            if (!std::isnan(best) && !(best >= v)) best = v;  // NaN beats every number
            if ((ih - h.start) * pool.windows.kernel + iw - w.start != winner[index]) continue;
            at_winner = v;
            g[static_cast<std::size_t>(here * channels + c)] += t.dy.get(row, c);
          }
        }
        expected.set(row, c, best);
        if (best > 0) {
          ASSERT_NEAR(at_winner, best, 1e-6) << row << " " << c;
        } else {
          ASSERT_EQ(winner[index], kNoWinner) << row << " " << c;
        }
      }
    });
    expect_values(type, t.y, [&](std::int64_t row, int c) { return expected.get(row, c); });

    t.x.set(t.in_row(1, 2, 3), 0, 0.25);
    const int blocks = sum_blocks(t.large.rows, channels);
    std::vector<float> partial(static_cast<std::size_t>(blocks * 2 * channels));
    kernels.norm_max_pool_backward_sums(nullptr, {t.out(t.dy), t.in(t.x), pool.windows,
                                                  winner.data(), mean.data(), partial.data()});
    const auto sum_of = [&](int sum, int c) {
      double total = 0;
      for (int block = 0; block < blocks; ++block)
        total += partial[static_cast<std::size_t>((block * 2 + sum) * channels + c)];
      return total;
    };
    for (int c = 0; c < channels; ++c) {
      double sums[2] = {};
      for (std::int64_t row = 0; row < t.large.rows; ++row) {
        const double of_row = g[static_cast<std::size_t>(row * channels + c)];
        sums[0] += of_row;
        sums[1] += of_row * (t.x.get(row, c) - mean[std::size_t(c)]);
      }
      ASSERT_NEAR(sum_of(0, c), sums[0], 1e-4) << c;
      ASSERT_NEAR(sum_of(1, c), sums[1], 1e-3) << c;
    }
    const auto a = floats(channels, 7), b = floats(channels, 8), constant = floats(channels, 9);
    kernels.norm_max_pool_backward_apply(
        nullptr, {t.out(t.dy), t.in(t.x), t.in(t.dx), pool.windows, winner.data(), mean.data(),
                  a.data(), b.data(), constant.data()});
    expect_values(
        type, t.dx,
        [&](std::int64_t row, int c) {
          const auto i = static_cast<std::size_t>(c);
          return g[static_cast<std::size_t>(row * channels + c)] * a[i] +
                 (t.x.get(row, c) - mean[i]) * b[i] + constant[i];
        },
        20);
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

}  // namespace
}  // namespace rackmark::worker::cuda::testing
