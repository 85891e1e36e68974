// Bodies and launchers of local response norm: y = x * s^-beta, s = k + alpha / size * (squares of
// `size` channels around). A thread holds its group and both neighbours.
#pragma once

#include "worker/backend/cuda/kernels/pools.hpp"

namespace rackmark::worker::cuda::bodies {

struct ResponseShape {
  static constexpr int kMostReach = 4;  // backward looks twice as far, and holds 8 on either side

  template <class Arguments>
  ResponseShape(const Arguments& k, int all_channels)
      : before(k.size / 2),  // of an even size, the longer half lies before the channel
        after((k.size - 1) / 2),
        channels(all_channels),
        k(static_cast<float>(k.k)),
        alpha(static_cast<float>(k.alpha / k.size)),
        beta(static_cast<float>(k.beta)) {}

  int before, after, channels;
  float k, alpha, beta;

  RM_DEVICE float power(float s) const {  // s^-beta
    if (beta == 0.75F) {
      const float root = 1 / sqrtf(s);
      return root * sqrtf(root);
    }
    return powf(s, -beta);
  }
};

constexpr int kAround = 3 * kGroup;  // the group before, its own, the group after

// Channels outside of the row are zero, which is what they count.
template <class Access>
RM_DEVICE void load_around(const View<const typename Access::Value>& x, unsigned row, Span span,
                           int channels, float (&around)[kAround]) {
  RM_UNROLL
  for (int part = 0; part < 3; ++part) {
    const int first = span.first + (part - 1) * kGroup;
    const int count = smaller(channels - first, kGroup);
    float v[kGroup] = {};
    if (first >= 0 && count > 0) load<Access>(x.at(row, first), count, v);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) around[part * kGroup + i] = v[i];
  }
}

// s of kCount channels from place kFirst of `x` on.
template <int kFirst, int kCount>
RM_DEVICE void scales_of(const ResponseShape& shape, const float (&x)[kAround],
                         float (&s)[kCount]) {
  RM_UNROLL
  for (int i = 0; i < kCount; ++i) s[i] = 0;
  RM_UNROLL
  for (int away = -ResponseShape::kMostReach; away <= ResponseShape::kMostReach; ++away) {
    if (away < -shape.before || away > shape.after) continue;
    RM_UNROLL
    for (int i = 0; i < kCount; ++i) s[i] += x[kFirst + i + away] * x[kFirst + i + away];
  }
  RM_UNROLL
  for (int i = 0; i < kCount; ++i) s[i] = shape.k + shape.alpha * s[i];
}

template <class Access>
struct ResponseNormBody : Unloaded<Access> {
  using T = typename Access::Value;

  explicit ResponseNormBody(const ResponseNorm& k) : x(k.x), y(k.y), shape(k, k.x.channels) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, Nothing) const {
    float v[kAround], s[kGroup];
    load_around<Access>(x, row, span, shape.channels, v);
    scales_of<kGroup, kGroup>(shape, v, s);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) s[i] = v[kGroup + i] * shape.power(s[i]);
    Access::store(y.at(row, span.first), span.count, s);
  }

  View<const T> x;
  View<T> y;
  ResponseShape shape;
};

// dx[j] = dy[j] * s[j]^-beta - 2 alpha beta / size * x[j] * sum of dy[c] x[c] s[c]^(-beta - 1) over
// the channels c that have j in their window.
template <class Access>
struct ResponseNormBackwardBody : Unloaded<Access> {
  using T = typename Access::Value;
  static constexpr int kReach = ResponseShape::kMostReach, kNear = kGroup + 2 * kReach;

  explicit ResponseNormBackwardBody(const ResponseNormBackward& k)
      : dy(k.dy), x(k.x), dx(k.dx), shape(k, k.x.channels), accumulate(k.accumulate) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, Nothing) const {
    float v[kAround], g[kAround], through[kNear], sum[kGroup];
    load_around<Access>(x, row, span, shape.channels, v);
    load_around<Access>(dy, row, span, shape.channels, g);
    scales_of<kGroup - kReach, kNear>(shape, v, through);
    RM_UNROLL
    for (int i = 0; i < kNear; ++i) {
      const float s = through[i], power = shape.power(s);
      const float direct = g[kGroup - kReach + i] * power;
      through[i] = direct * v[kGroup - kReach + i] / s;
      if (i >= kReach && i < kReach + kGroup) sum[i - kReach] = direct;
    }
    add_neighbours(v, through, sum);
    if (accumulate) {
      float old[kGroup];
      bodies::load<Access>(dx.at(row, span.first), span.count, old);
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) sum[i] += old[i];
    }
    Access::store(dx.at(row, span.first), span.count, sum);
  }

  View<const T> dy, x;
  View<T> dx;
  ResponseShape shape;
  bool accumulate;

 private:
  RM_DEVICE void add_neighbours(const float (&v)[kAround], const float (&through)[kNear],
                                float (&sum)[kGroup]) const {
    const float factor = -2 * shape.alpha * shape.beta;
    RM_UNROLL
    for (int away = -kReach; away <= kReach; ++away) {
      if (away < -shape.after || away > shape.before) continue;
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        sum[i] += factor * v[kGroup + i] * through[kReach + i + away];
      }
    }
  }
};

template <class T, class Runner>
void response_norm(Queue queue, const ResponseNorm& k) {
  require(k.size > 0 && k.size <= 9, "response_norm", "size must be 1 to 9");
  run_elementwise<T, Runner, ResponseNormBody>(queue, "response_norm", k, k.x, {k.x, k.y});
}
template <class T, class Runner>
void response_norm_backward(Queue queue, const ResponseNormBackward& k) {
  require(k.size > 0 && k.size <= 9, "response_norm_backward", "size must be 1 to 9");
  run_elementwise<T, Runner, ResponseNormBackwardBody>(queue, "response_norm_backward", k, k.dy,
                                                       {k.dy, k.x, k.dx});
}

template <class T, class Runner>
void add_response_kernels(Kernels& kernels) {
  kernels.response_norm = response_norm<T, Runner>;
  kernels.response_norm_backward = response_norm_backward<T, Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
