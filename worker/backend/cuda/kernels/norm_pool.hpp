// Bodies and launchers of batch norm, ReLU and max pool in one: what lies between them, four times
// as large as the result where a window moves by two, is never in memory, nor is its gradient.
#pragma once

#include "worker/backend/cuda/kernels/norm.hpp"
#include "worker/backend/cuda/kernels/pools.hpp"

namespace rackmark::worker::cuda::bodies {

template <class Access_>
struct NormMaxPoolBody {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kInFlight = 1;
  struct Channels {
    float scale[kGroup], shift[kGroup];
  };

  explicit NormMaxPoolBody(const NormMaxPool& k)
      : x(k.x.pixels),
        y(k.y.pixels),
        shape(k.x, k.y, k.windows),
        scale(k.scale),
        shift(k.shift),
        winner(k.winner),
        channels(k.y.pixels.channels) {}
  RM_DEVICE Channels begin(Span span) const {
    Channels kept;
    load_channels(scale, span, kept.scale);
    load_channels(shift, span, kept.shift);
    return kept;
  }
  RM_DEVICE Nothing load(const Channels&, Span, unsigned) const { return {}; }
  RM_DEVICE void finish(const Channels& kept, Span span, unsigned row, Nothing) const {
    const Pixel out = pixel_of(row, shape.out_height, shape.out_width);
    const Between h = shape.under(out.h, shape.out_height, shape.in_height);
    const Between w = shape.under(out.w, shape.out_width, shape.in_width);
    const int top = shape.start_of(out.h), left = shape.start_of(out.w);
    Largest largest(kNoWinner);
    for_window<Access>(x, shape, out.image, h, w, span,
                       [&](int ih, int iw, const float(&v)[kGroup]) {
                         float normed[kGroup];
                         RM_UNROLL
                         for (int i = 0; i < kGroup; ++i) {
                           normed[i] = rectified(v[i] * kept.scale[i] + kept.shift[i]);
                         }
                         largest.see(normed, (ih - top) * shape.windows.kernel + iw - left);
                       });
    Access::store(y.at(row, span.first), span.count, largest.best);
    if (winner == nullptr) return;
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (!(largest.best[i] > 0)) largest.place[i] = kNoWinner;
    }
    Access::store_bytes(winner + static_cast<std::int64_t>(row) * channels + span.first, span.count,
                        largest.place);
  }

  View<const T> x;
  View<T> y;
  PoolShape shape;
  const float *scale, *shift;
  std::uint8_t* winner;
  int channels;
};

// g of an input, gathered from the windows over it.
template <class Access>
struct WonGradient {
  using T = typename Access::Value;

  WonGradient(const Picture& dy_given, const Picture& x, const Windows& windows,
              const std::uint8_t* winner_given)
      : dy(dy_given.pixels),
        shape(x, dy_given, windows),
        winner(winner_given),
        channels(dy_given.pixels.channels) {}
  RM_DEVICE void gather(unsigned row, Span span, float (&g)[kGroup]) const {
    const Pixel in = pixel_of(row, shape.in_height, shape.in_width);
    const Between h = shape.over(in.h, shape.out_height, shape.in_height);
    const Between w = shape.over(in.w, shape.out_width, shape.in_width);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) g[i] = 0;
    for (int oh = h.first; oh < h.last; ++oh) {
      for (int ow = w.first; ow < w.last; ++ow) {
        const unsigned out = row_of(in.image, oh, ow, shape.out_height, shape.out_width);
        const int here =
            (in.h - shape.start_of(oh)) * shape.windows.kernel + in.w - shape.start_of(ow);
        float given[kGroup];
        int place[kGroup];
        load<Access>(dy.at(out, span.first), span.count, given);
        Access::load_bytes(winner + static_cast<std::int64_t>(out) * channels + span.first,
                           span.count, place);
        RM_UNROLL
        for (int i = 0; i < kGroup; ++i) {
          if (place[i] == here) g[i] += given[i];
        }
      }
    }
  }

  View<const T> dy;
  PoolShape shape;
  const std::uint8_t* winner;
  int channels;
};

template <class Access_>
struct NormMaxPoolBackwardSummand {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kSums = 2, kInFlight = 1, kBlocksPerProcessor = 4;
  struct Channels {
    float mean[kGroup];
  };

  explicit NormMaxPoolBackwardSummand(const NormMaxPoolBackwardSums& k)
      : won(k.dy, k.x, k.windows, k.winner), x(k.x.pixels), mean(k.mean) {}
  RM_DEVICE Channels begin(Span span) const {
    Channels channels;
    load_channels(mean, span, channels.mean);
    return channels;
  }
  RM_DEVICE auto load(Span span, unsigned row) const {
    return Access::load(x.at(row, span.first), span.count);
  }
  RM_DEVICE void add(const Channels& channels, Span span, unsigned row,
                     const typename Access::Raw& raw, float (&sums)[kSums][kGroup]) const {
    float g[kGroup], v[kGroup];
    won.gather(row, span, g);
    Access::unpack(raw, v);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      sums[0][i] += g[i];
      sums[1][i] += g[i] * (v[i] - channels.mean[i]);
    }
  }

  WonGradient<Access> won;
  View<const T> x;
  const float* mean;
};

template <class Access_>
struct NormMaxPoolBackwardApplyBody {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kInFlight = 1, kBlocksPerProcessor = 3;  // gathering wants many threads
  explicit NormMaxPoolBackwardApplyBody(const NormMaxPoolBackwardApply& k)
      : won(k.dy, k.x, k.windows, k.winner), x(k.x.pixels), dx(k.dx.pixels), arrays(k) {}
  RM_DEVICE InputGradient begin(Span span) const { return InputGradient::load(arrays, span); }
  RM_DEVICE auto load(const InputGradient&, Span span, unsigned row) const {
    return Access::load(x.at(row, span.first), span.count);
  }
  RM_DEVICE void finish(const InputGradient& gradient, Span span, unsigned row,
                        const typename Access::Raw& raw) const {
    float g[kGroup], v[kGroup];
    won.gather(row, span, g);
    Access::unpack(raw, v);
    gradient.replace(v, g);
    Access::store(dx.at(row, span.first), span.count, v);
  }

  WonGradient<Access> won;
  View<const T> x;
  View<T> dx;
  NormMaxPoolBackwardApply arrays;
};

// --- launchers -----------------------------------------------------------------------------------

template <class T, class Runner>
void norm_max_pool(Queue queue, const NormMaxPool& k) {
  constexpr const char* kName = "norm_max_pool";
  require_places(kName, k.windows);
  require(k.scale != nullptr && k.shift != nullptr, kName, "scale or shift is null");
  run_pool<T, Runner, NormMaxPoolBody>(queue, kName, k, k.x, k.y, k.y, k.winner);
}
template <class T, class Runner>
void norm_max_pool_backward_sums(Queue queue, const NormMaxPoolBackwardSums& k) {
  constexpr const char* kName = "norm_max_pool_backward_sums";
  require_places(kName, k.windows);
  require(k.winner != nullptr && k.mean != nullptr, kName, "winner or mean is null");
  require_pool(kName, k.x, k.dy, k.windows);
  const Matrix& x = k.x.pixels;
  by_access<T>(in_vectors<T>({k.dy.pixels, x}) && is_aligned(k.winner, kGroup), [&](auto access) {
    run_sums<Runner>(queue, kName, NormMaxPoolBackwardSummand<decltype(access)>(k), x, k.partial);
  });
}
template <class T, class Runner>
void norm_max_pool_backward_apply(Queue queue, const NormMaxPoolBackwardApply& k) {
  constexpr const char* kName = "norm_max_pool_backward_apply";
  require_places(kName, k.windows);
  require(k.winner != nullptr, kName, "winner is null");
  require_pool(kName, k.x, k.dy, k.windows);
  require_alike(kName, k.x.pixels, k.dx.pixels);
  const Matrix &x = k.x.pixels, &dx = k.dx.pixels;
  const bool vectors = in_vectors<T>({k.dy.pixels, x, dx}) && is_aligned(k.winner, kGroup);
  by_access<T>(vectors, [&](auto access) {
    Runner::rows(queue, kName, NormMaxPoolBackwardApplyBody<decltype(access)>(k), x.rows,
                 x.channels);
  });
}

template <class T, class Runner>
void add_norm_pool_kernels(Kernels& kernels) {
  kernels.norm_max_pool = norm_max_pool<T, Runner>;
  kernels.norm_max_pool_backward_sums = norm_max_pool_backward_sums<T, Runner>;
  kernels.norm_max_pool_backward_apply = norm_max_pool_backward_apply<T, Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
