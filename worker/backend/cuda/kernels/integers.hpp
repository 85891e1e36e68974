// Integers of 8 bits: how values become integers, and which kernels they have.
#pragma once

#include "worker/backend/cuda/kernels/optimizer.hpp"

namespace rackmark::worker::cuda::bodies {

template <class Access_>
struct ToIntegersBody {
  using Access = Access_;
  using T = typename Access::Value;
  using Stored = std::conditional_t<Access::kWhole, Vectors<Integer>, Singles<Integer>>;
  static constexpr int kInFlight = in_flight<Access>(4);

  explicit ToIntegersBody(const ToIntegers& k) : from(k.from), to(k.to), factor(k.factor) {}
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE auto load(Nothing, Span span, unsigned row) const {
    return Access::load(from.at(row, span.first), span.count);
  }
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const typename Access::Raw& raw) const {
    float x[kGroup];
    Access::unpack(raw, x);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] *= factor;
    Stored::store(to.at(row, span.first), span.count, x);
  }

  View<const T> from;
  View<Integer> to;
  float factor;
};

template <class T, class Runner>
void to_integers(Queue queue, const ToIntegers& k) {
  constexpr const char* kName = "to_integers";
  require_alike(kName, k.from, k.to);
  by_access<T>(in_vectors<T>({k.from}) && in_vectors<Integer>({k.to}), [&](auto access) {
    Runner::rows(queue, kName, ToIntegersBody<decltype(access)>(k), k.from.rows, k.from.channels);
  });
}

template <class Runner>
void add_integer_kernels(Kernels& kernels) {
  kernels.load_pictures = load_pictures<Integer, Runner>;
  kernels.load_raw_pictures = load_raw_pictures<Integer, Runner>;
  kernels.copy = copy<Integer, Runner>;
  kernels.max_pool = max_pool<Integer, Runner>;
  kernels.average_pool = average_pool<Integer, Runner>;
  kernels.narrow = narrow<Integer, Runner>;
  kernels.widen = widen<Integer, Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
