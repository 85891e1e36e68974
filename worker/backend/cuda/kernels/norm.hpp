// Bodies and launchers of batch norm and of the bias, which sums the same way.
#pragma once

#include "worker/backend/cuda/kernels/checks.hpp"
#include "worker/backend/cuda/kernels/sums.hpp"

namespace rackmark::worker::cuda::bodies {

// --- forward -------------------------------------------------------------------------------------

// Values are shifted by the first row's: of a channel with a large mean and a small deviation the
// squares would otherwise lose what the variance is made of.
template <class Access_>
struct NormSummand {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kSums = 2, kInFlight = in_flight<Access>(4), kBlocksPerProcessor = 4;
  struct Channels {
    float first[kGroup];
  };

  explicit NormSummand(const NormSums& k) : x(k.x) {}
  RM_DEVICE Channels begin(Span span) const {
    Channels channels;
    bodies::load<Access>(x.at(0, span.first), span.count, channels.first);
    return channels;
  }
  RM_DEVICE auto load(Span span, unsigned row) const {
    return Access::load(x.at(row, span.first), span.count);
  }
  RM_DEVICE void add(const Channels& channels, Span, unsigned, const typename Access::Raw& raw,
                     float (&sums)[kSums][kGroup]) const {
    float values[kGroup];
    Access::unpack(raw, values);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      const float d = values[i] - channels.first[i];
      sums[0][i] += d;
      sums[1][i] += d * d;
    }
  }

  View<const T> x;
};

// Scale and shift once more, where a convolution takes them.
template <class T, class Arrays>
RM_DEVICE void put_narrow(const Arrays& k, int channel) {
  if (k.narrow_scale == nullptr) return;
  put(static_cast<T*>(k.narrow_scale)[channel], k.scale[channel]);
  put(static_cast<T*>(k.narrow_shift)[channel], k.shift[channel]);
}

template <class T>
struct NormStatisticsFinish {
  static constexpr int kSums = 2;
  int sum_at[kSums] = {0, 1};
  NormStatistics k;

  RM_DEVICE void operator()(int channel, const double (&sums)[kSums]) const {
    const auto n = static_cast<double>(k.x.rows);
    const double shifted = sums[0] / n;
    double variance = sums[1] / n - shifted * shifted;
    if (variance < 0) variance = 0;  // rounding; NaN stays
    const double first = k.summed ? 0.0 : to_float(static_cast<const T*>(k.x.data)[channel]);
    const double mean = first + shifted;
    const double inverse = 1 / sqrt(variance + k.epsilon), scale = k.weight[channel] * inverse;
    blend(k.running_mean[channel], mean);
    blend(k.running_variance[channel], variance * n / (n - 1));
    k.mean[channel] = static_cast<float>(mean);
    k.inverse_deviation[channel] = static_cast<float>(inverse);
    k.scale[channel] = static_cast<float>(scale);
    k.shift[channel] = static_cast<float>(k.bias[channel] - mean * scale);
    put_narrow<T>(k, channel);
  }
  RM_DEVICE void blend(float& running, double value) const {
    running = static_cast<float>((1 - k.momentum) * running + k.momentum * value);
  }
};

template <class T>
struct NormFromRunningBody {
  using Access = Singles<float>;
  static constexpr int kInFlight = 1;
  NormFromRunning k;

  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE Nothing load(Nothing, Span, unsigned) const { return {}; }
  RM_DEVICE void finish(Nothing, Span span, unsigned, Nothing) const {
    for (int c = span.first; c < span.first + span.count; ++c) {
      const double scale = k.weight[c] / sqrt(k.running_variance[c] + k.epsilon);
      k.scale[c] = static_cast<float>(scale);
      k.shift[c] = static_cast<float>(k.bias[c] - k.running_mean[c] * scale);
      put_narrow<T>(k, c);
    }
  }
};

template <class Access_, bool kResidual>
struct NormApplyBody {
  using Access = Access_;
  using T = typename Access::Value;
  using Raw = typename Access::Raw;
  static constexpr int kInFlight = in_flight<Access>(kResidual ? 2 : 4);
  struct Channels {
    float scale[kGroup], shift[kGroup];
    float residual_scale[kResidual ? kGroup : 1];
  };
  struct Values {
    Raw x, residual;
  };

  explicit NormApplyBody(const NormApply& k)
      : x(k.x),
        residual(k.residual),
        y(k.y),
        mask(k.mask, k.y.channels),
        scale(k.scale),
        shift(k.shift),
        residual_scale(k.residual_scale),
        residual_shift(k.residual_shift),
        relu(k.relu) {}

  RM_DEVICE Channels begin(Span span) const {
    Channels channels;
    load_channels(scale, span, channels.scale);
    load_channels(shift, span, channels.shift);
    if constexpr (kResidual) begin_residual(span, channels);
    return channels;
  }
  RM_DEVICE Values load(const Channels&, Span span, unsigned row) const {
    Values values;
    values.x = Access::load(x.at(row, span.first), span.count);
    if constexpr (kResidual) {
      values.residual = Access::load(residual.at(row, span.first), span.count);
    }
    return values;
  }
  RM_DEVICE void finish(const Channels& channels, Span span, unsigned row,
                        const Values& values) const {
    float v[kGroup];
    Access::unpack(values.x, v);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) v[i] = v[i] * channels.scale[i] + channels.shift[i];
    if constexpr (kResidual) {
      float r[kGroup];
      Access::unpack(values.residual, r);
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) v[i] += r[i] * channels.residual_scale[i];
    }
    if (relu) rectify_group(v, mask, row, span);
    Access::store(y.at(row, span.first), span.count, v);
  }

  View<const T> x, residual;
  View<T> y;
  WritableMask mask;
  const float *scale, *shift, *residual_scale, *residual_shift;
  bool relu;

 private:
  // The two shifts are one, and a residual as it is has the scale 1.
  RM_DEVICE void begin_residual(Span span, Channels& channels) const {
    if (residual_scale == nullptr) {
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) channels.residual_scale[i] = 1;
      return;
    }
    float second_shift[kGroup];
    load_channels(residual_scale, span, channels.residual_scale);
    load_channels(residual_shift, span, second_shift);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) channels.shift[i] += second_shift[i];
  }
};

// --- backward ------------------------------------------------------------------------------------

template <class Access_, bool kResidual>
struct NormBackwardSummand {
  using Access = Access_;
  using T = typename Access::Value;
  using Raw = typename Access::Raw;
  static constexpr int kSums = kResidual ? 3 : 2, kInFlight = in_flight<Access>(2);
  static constexpr int kBlocksPerProcessor = kResidual ? 2 : 4;
  struct Channels {
    float mean[kGroup];
    float residual_mean[kResidual ? kGroup : 1];
  };
  struct Values {
    Raw dy, x, residual_x;
    std::uint32_t bits;
  };

  explicit NormBackwardSummand(const NormBackwardSums& k)
      : dy(k.dy),
        x(k.x),
        residual_x(k.residual_x),
        masked(k.masked),
        mask(k.mask, k.dy.channels),
        mean(k.mean),
        residual_mean(k.residual_mean) {}

  RM_DEVICE Channels begin(Span span) const {
    Channels channels;
    load_channels(mean, span, channels.mean);
    if constexpr (kResidual) load_channels(residual_mean, span, channels.residual_mean);
    return channels;
  }
  RM_DEVICE Values load(Span span, unsigned row) const {
    Values values;
    values.dy = Access::load(dy.at(row, span.first), span.count);
    values.x = Access::load(x.at(row, span.first), span.count);
    if constexpr (kResidual) {
      values.residual_x = Access::load(residual_x.at(row, span.first), span.count);
    }
    values.bits = mask.present() ? *mask.at(row, span) : 0xFFU;
    return values;
  }
  RM_DEVICE void add(const Channels& channels, Span span, unsigned row, const Values& values,
                     float (&sums)[kSums][kGroup]) const {
    float g[kGroup], other[kGroup];
    Access::unpack(values.dy, g);
    keep_masked(g, values.bits);
    if (masked.present()) Access::store(masked.at(row, span.first), span.count, g);
    Access::unpack(values.x, other);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      sums[0][i] += g[i];
      sums[1][i] += g[i] * (other[i] - channels.mean[i]);
    }
    if constexpr (kResidual) {
      Access::unpack(values.residual_x, other);
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) sums[2][i] += g[i] * (other[i] - channels.residual_mean[i]);
    }
  }

  View<const T> dy, x, residual_x;
  View<T> masked;
  Mask mask;
  const float *mean, *residual_mean;
};

// dx = weight / deviation * (g - mean(g) - (x - mean) / deviation^2 * mean(g * (x - mean)))
struct NormBackwardFinish {
  static constexpr int kSums = 2;
  int sum_at[kSums];
  NormBackwardStatistics k;

  explicit NormBackwardFinish(const NormBackwardStatistics& given)
      : sum_at{0, given.sum}, k(given) {}
  RM_DEVICE void operator()(int channel, const double (&sums)[kSums]) const {
    const auto n = static_cast<double>(k.rows);
    const double inverse = k.inverse_deviation[channel], a = k.weight[channel] * inverse;
    const double weight_gradient = k.summed ? sums[1] : sums[1] * inverse;
    k.weight_gradient[channel] = static_cast<float>(weight_gradient);
    k.bias_gradient[channel] = static_cast<float>(sums[0]);
    k.a[channel] = static_cast<float>(a);
    k.b[channel] = static_cast<float>(-a * inverse * weight_gradient / n);
    k.c[channel] = static_cast<float>(-a * sums[0] / n);
  }
};

// dx = g * a + (x - mean) * b + c, of one group.
struct InputGradient {
  float mean[kGroup], a[kGroup], b[kGroup], c[kGroup];

  template <class Arrays>
  static RM_DEVICE InputGradient load(const Arrays& arrays, Span span) {
    InputGradient of;
    load_channels(arrays.mean, span, of.mean);
    load_channels(arrays.a, span, of.a);
    load_channels(arrays.b, span, of.b);
    load_channels(arrays.c, span, of.c);
    return of;
  }
  RM_DEVICE void replace(float (&x)[kGroup], const float (&g)[kGroup]) const {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] = g[i] * a[i] + ((x[i] - mean[i]) * b[i] + c[i]);
  }
};

template <class Access_>
struct NormBackwardApplyBody {
  using Access = Access_;
  using T = typename Access::Value;
  using Raw = typename Access::Raw;
  static constexpr int kInFlight = in_flight<Access>(2);
  struct Values {
    Raw dy, x;
    std::uint32_t bits;
  };

  explicit NormBackwardApplyBody(const NormBackwardApply& k)
      : dy(k.dy), x(k.x), dx(k.dx), mask(k.mask, k.dy.channels), arrays(k) {}

  RM_DEVICE InputGradient begin(Span span) const { return InputGradient::load(arrays, span); }
  RM_DEVICE Values load(const InputGradient&, Span span, unsigned row) const {
    return {Access::load(dy.at(row, span.first), span.count),
            Access::load(x.at(row, span.first), span.count),
            mask.present() ? *mask.at(row, span) : 0xFFU};
  }
  RM_DEVICE void finish(const InputGradient& gradient, Span span, unsigned row,
                        const Values& values) const {
    float g[kGroup], v[kGroup];
    Access::unpack(values.dy, g);
    keep_masked(g, values.bits);
    Access::unpack(values.x, v);
    gradient.replace(v, g);
    Access::store(dx.at(row, span.first), span.count, v);
  }

  View<const T> dy, x;
  View<T> dx;
  Mask mask;
  NormBackwardApply arrays;
};

// --- bias ----------------------------------------------------------------------------------------

template <class Access_>
struct BiasSummand {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kSums = 1, kInFlight = in_flight<Access>(4), kBlocksPerProcessor = 4;

  explicit BiasSummand(const BiasSums& k) : dy(k.dy) {}
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE auto load(Span span, unsigned row) const {
    return Access::load(dy.at(row, span.first), span.count);
  }
  RM_DEVICE void add(Nothing, Span, unsigned, const typename Access::Raw& raw,
                     float (&sums)[kSums][kGroup]) const {
    float g[kGroup];
    Access::unpack(raw, g);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) sums[0][i] += g[i];
  }

  View<const T> dy;
};

struct BiasFinish {
  static constexpr int kSums = 1;
  int sum_at[kSums] = {0};
  float* gradient;

  RM_DEVICE void operator()(int channel, const double (&sums)[kSums]) const {
    gradient[channel] = static_cast<float>(sums[0]);
  }
};

// --- launchers -----------------------------------------------------------------------------------

template <class Runner, class Summand>
void run_sums(Queue queue, const char* name, const Summand& summand, const Matrix& of,
              float* partial) {
  require(partial != nullptr, name, "partial is null");
  const ColumnSums<Summand> sums(summand, of.rows, of.channels, partial);
  Runner::phases(queue, name, sums, sums.blocks());
}
template <class Runner, class Finish>
void run_combination(Queue queue, const char* name, const Finish& finish, const float* partial,
                     std::int64_t rows, int channels, int sums) {
  const Combination<Finish> combination{partial, plan_sums(rows, channels).row_blocks, sums,
                                        channels, finish};
  Runner::phases(queue, name, combination, combination.blocks());
}

template <class T, class Runner>
void norm_sums(Queue queue, const NormSums& k) {
  require_alike("norm_sums", k.x, k.x);
  by_access<T>(in_vectors<T>({k.x}), [&](auto access) {
    run_sums<Runner>(queue, "norm_sums", NormSummand<decltype(access)>(k), k.x, k.partial);
  });
}
inline void require_both(const char* kernel, const void* narrow_scale, const void* narrow_shift) {
  require((narrow_scale == nullptr) == (narrow_shift == nullptr), kernel,
          "one of narrow_scale and narrow_shift is null");
}
template <class T, class Runner>
void norm_statistics(Queue queue, const NormStatistics& k) {
  require_alike("norm_statistics", k.x, k.x);
  require_both("norm_statistics", k.narrow_scale, k.narrow_shift);
  const NormStatisticsFinish<T> finish{{0, 1}, k};
  const std::int64_t summed_rows = k.summed ? 1 : k.x.rows;  // of one block
  run_combination<Runner>(queue, "norm_statistics", finish, k.partial, summed_rows, k.x.channels,
                          2);
}
template <class T, class Runner>
void norm_from_running(Queue queue, const NormFromRunning& k) {
  require_both("norm_from_running", k.narrow_scale, k.narrow_shift);
  Runner::rows(queue, "norm_from_running", NormFromRunningBody<T>{k}, 1, k.channels);
}
template <class T, class Runner>
void norm_apply(Queue queue, const NormApply& k) {
  require_alike("norm_apply", k.x, k.y);
  const bool residual = k.residual.data != nullptr;
  if (residual) require_alike("norm_apply", k.x, k.residual);
  require((k.residual_scale == nullptr) == (k.residual_shift == nullptr), "norm_apply",
          "one of residual_scale and residual_shift is null");
  by_access<T>(in_vectors<T>({k.x, k.y, k.residual}), [&](auto access) {
    using Access = decltype(access);
    residual
        ? Runner::rows(queue, "norm_apply", NormApplyBody<Access, true>(k), k.x.rows, k.x.channels)
        : Runner::rows(queue, "norm_apply", NormApplyBody<Access, false>(k), k.x.rows,
                       k.x.channels);
  });
}
template <class T, class Runner>
void norm_backward_sums(Queue queue, const NormBackwardSums& k) {
  require_alike("norm_backward_sums", k.dy, k.x);
  const bool residual = k.residual_x.data != nullptr;
  if (residual) require_alike("norm_backward_sums", k.dy, k.residual_x);
  if (k.masked.data != nullptr) require_alike("norm_backward_sums", k.dy, k.masked);
  by_access<T>(in_vectors<T>({k.dy, k.x, k.residual_x, k.masked}), [&](auto access) {
    using Access = decltype(access);
    residual ? run_sums<Runner>(queue, "norm_backward_sums", NormBackwardSummand<Access, true>(k),
                                k.dy, k.partial)
             : run_sums<Runner>(queue, "norm_backward_sums", NormBackwardSummand<Access, false>(k),
                                k.dy, k.partial);
  });
}
template <class Runner>
void norm_backward_statistics(Queue queue, const NormBackwardStatistics& k) {
  require(k.sum > 0 && k.sum < k.sums, "norm_backward_statistics", "needs 0 < sum < sums");
  require(!k.summed || (k.sums == 2 && k.sum == 1), "norm_backward_statistics",
          "a convolution sums up for one batch norm");
  const std::int64_t summed_rows = k.summed ? 1 : k.rows;  // of one block
  run_combination<Runner>(queue, "norm_backward_statistics", NormBackwardFinish(k), k.partial,
                          summed_rows, k.channels, k.sums);
}
template <class T, class Runner>
void norm_backward_apply(Queue queue, const NormBackwardApply& k) {
  require_alike("norm_backward_apply", k.dy, k.x);
  require_alike("norm_backward_apply", k.dy, k.dx);
  by_access<T>(in_vectors<T>({k.dy, k.x, k.dx}), [&](auto access) {
    Runner::rows(queue, "norm_backward_apply", NormBackwardApplyBody<decltype(access)>(k),
                 k.dy.rows, k.dy.channels);
  });
}
template <class T, class Runner>
void bias_sums(Queue queue, const BiasSums& k) {
  require_alike("bias_sums", k.dy, k.dy);
  by_access<T>(in_vectors<T>({k.dy}), [&](auto access) {
    run_sums<Runner>(queue, "bias_sums", BiasSummand<decltype(access)>(k), k.dy, k.partial);
  });
}
template <class Runner>
void bias_gradient(Queue queue, const BiasGradient& k) {
  run_combination<Runner>(queue, "bias_gradient", BiasFinish{{0}, k.gradient}, k.partial, k.rows,
                          k.channels, 1);
}

template <class T, class Runner>
void add_norm_kernels(Kernels& kernels) {
  kernels.norm_sums = norm_sums<T, Runner>;
  kernels.norm_statistics = norm_statistics<T, Runner>;
  kernels.norm_from_running = norm_from_running<T, Runner>;
  kernels.norm_apply = norm_apply<T, Runner>;
  kernels.norm_backward_sums = norm_backward_sums<T, Runner>;
  kernels.norm_backward_statistics = norm_backward_statistics<Runner>;
  kernels.norm_backward_apply = norm_backward_apply<T, Runner>;
  kernels.bias_sums = bias_sums<T, Runner>;
  kernels.bias_gradient = bias_gradient<Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
