// Kernels of batch norm.
#include "tests/worker/cuda/kernel_cases.hpp"

namespace rackmark::worker::cuda::testing {
namespace {

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
      : weight(floats(x.channels(), 11, 0.4, 1)),
        bias(floats(x.channels(), 12)),
        narrow_scale(empty(type, {1, x.channels()})),
        narrow_shift(empty(type, {1, x.channels()})) {
    for (auto* v : {&running_mean, &running_variance, &mean, &inverse, &scale, &shift}) {
      v->assign(static_cast<std::size_t>(x.channels()), 2);
    }
    partial.assign(static_cast<std::size_t>(sum_blocks(x.rows(), x.channels()) * 2 * x.channels()),
                   -99);
    tested_kernels(type).norm_sums(nullptr, {x.matrix(), partial.data()});
    finish(type, x, false);
  }
  void finish(Type type, Stored& x, bool summed) {
    NormStatistics k{partial.data(),
                     summed,
                     x.matrix(),
                     weight.data(),
                     bias.data(),
                     running_mean.data(),
                     running_variance.data(),
                     0.1,
                     1e-5,
                     mean.data(),
                     inverse.data(),
                     scale.data(),
                     shift.data()};
    if (summed) k.narrow_scale = narrow_scale.matrix().data;
    if (summed) k.narrow_shift = narrow_shift.matrix().data;
    tested_kernels(type).norm_statistics(nullptr, k);
  }

  std::vector<float> weight, bias, running_mean, running_variance, mean, inverse, scale, shift;
  std::vector<float> partial;
  Stored narrow_scale, narrow_shift;  // written with sums of a convolution
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
    expect_values(
        type, s.narrow_scale, [&](std::int64_t, int c) { return s.scale[std::size_t(c)]; }, 0);
    expect_values(
        type, s.narrow_shift, [&](std::int64_t, int c) { return s.shift[std::size_t(c)]; }, 0);
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
    expect_same_of_a_convolutions_sums(s, dw, db, {a, b, c});
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

  void expect_same_of_a_convolutions_sums(const Statistics& s, const std::vector<float>& dw,
                                          const std::vector<float>& db,
                                          const std::vector<std::vector<float>>& wanted) {
    std::vector<float> totals = db, dw_again(dw.size()), db_again(dw), a(dw), b(dw), c(dw);
    totals.insert(totals.end(), dw.begin(), dw.end());
    tested_kernels(type).norm_backward_statistics(
        nullptr,
        {totals.data(), 2, 1, place.rows, place.channels, s.weight.data(), s.inverse.data(),
         dw_again.data(), db_again.data(), a.data(), b.data(), c.data(), true});
    EXPECT_EQ(dw_again, dw);
    EXPECT_EQ(db_again, db);
    for (std::size_t i = 0; i < dw.size(); ++i) {
      ASSERT_FLOAT_EQ(a[i], wanted[0][i]);
      ASSERT_FLOAT_EQ(b[i], wanted[1][i]);
      ASSERT_FLOAT_EQ(c[i], wanted[2][i]);
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

}  // namespace
}  // namespace rackmark::worker::cuda::testing
