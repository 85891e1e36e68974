// Bodies and launchers over flat arrays: the update, what 16-bit training needs beside it, and
// conversions. A thread takes 8 elements at a time.
#pragma once

#include "worker/backend/cuda/kernels/pools.hpp"

namespace rackmark::worker::cuda::bodies {

// `Derived` has run<Floats, Stored>(first, count): access to floats and to values of type T.
template <class T, class Derived>
struct FlatBody : Unloaded<Singles<T>> {
  FlatBody(std::int64_t element_count, std::initializer_list<const void*> arrays)
      : count(element_count), vectors(true) {
    for (const void* array : arrays) vectors = vectors && is_aligned(array, 16);
  }
  RM_DEVICE void finish(Nothing, Span, unsigned row, Nothing) const {
    const std::int64_t first = static_cast<std::int64_t>(row) * kGroup, left = count - first;
    const auto* derived = static_cast<const Derived*>(this);
    if (vectors && left >= kGroup) {
      derived->template run<Vectors<float>, Vectors<T>>(first, kGroup);
    } else {
      derived->template run<Singles<float>, Singles<T>>(
          first, left < kGroup ? static_cast<int>(left) : kGroup);
    }
  }

  std::int64_t count;
  bool vectors;
};

struct UnscaleBody : FlatBody<float, UnscaleBody> {
  explicit UnscaleBody(const Unscale& given) : FlatBody(given.count, {given.gradients}), k(given) {}
  template <class Floats, class>
  RM_DEVICE void run(std::int64_t first, int n) const {
    const float scale = k.state->loss_scale;
    if (scale == 1) return;
    const float factor = 1 / scale;
    float g[kGroup];
    bodies::load<Floats>(k.gradients + first, n, g);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) g[i] *= factor;
    Floats::store(k.gradients + first, n, g);
  }
  Unscale k;
};

struct BeginSearch {
  StepState* state;
  bool scaled;
  RM_DEVICE void run() const {
    state->overflow = 0;
    state->gradient_scale = scaled ? state->loss_scale : 1;
  }
};
// Several threads may write, all of them the same.
struct FindOverflowBody : FlatBody<float, FindOverflowBody> {
  explicit FindOverflowBody(const FindOverflow& given)
      : FlatBody(given.count, {given.gradients}), k(given) {}
  template <class Floats, class>
  RM_DEVICE void run(std::int64_t first, int n) const {
    float g[kGroup];
    bodies::load<Floats>(k.gradients + first, n, g);
    bool all_finite = true;
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) all_finite = all_finite && finite(g[i]);
    if (!all_finite) k.state->overflow = 1;
  }
  FindOverflow k;
};

// The arithmetic is that of worker/backend/sgd_loop.hpp; loss scales are powers of two unless the
// spec says otherwise, so that no bit depends on when gradients lose theirs.
template <class T>
struct SgdBody : FlatBody<T, SgdBody<T>> {
  explicit SgdBody(const Sgd& given)
      : FlatBody<T, SgdBody>(given.count,
                             {given.weights, given.velocities, given.gradients, given.narrow}),
        k(given) {}
  template <class Floats, class Stored>
  RM_DEVICE void run(std::int64_t first, int n) const {
    const StepState& state = *k.state;
    if (state.overflow != 0) return;
    const float rate = state.learning_rate, momentum = state.momentum, decay = state.weight_decay;
    const float factor = 1 / state.gradient_scale;
    float w[kGroup], v[kGroup], g[kGroup];
    bodies::load<Floats>(k.weights + first, n, w);
    bodies::load<Floats>(k.velocities + first, n, v);
    bodies::load<Floats>(k.gradients + first, n, g);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      v[i] = momentum * v[i] + (g[i] * factor + decay * w[i]);
      w[i] -= rate * v[i];
    }
    Floats::store(k.velocities + first, n, v);
    Floats::store(k.weights + first, n, w);
    if (k.narrow != nullptr) Stored::store(static_cast<T*>(k.narrow) + first, n, w);
  }
  Sgd k;
};

struct AdjustScaleBody {
  StepState* state;
  bool fixed;

  RM_DEVICE void run() const {
    constexpr std::int32_t kPatience = 2000;
    constexpr float kMost = 65536.0F * 256;
    if (state->overflow != 0) {
      if (!fixed) state->loss_scale = state->loss_scale > 2 ? state->loss_scale / 2 : 1;
      state->overflow = 0;
      state->good_steps = 0;
      ++state->skipped;
    } else if (!fixed && ++state->good_steps >= kPatience) {
      state->loss_scale = state->loss_scale < kMost / 2 ? state->loss_scale * 2 : kMost;
      state->good_steps = 0;
    }
  }
};

template <class T>
struct NarrowBody : FlatBody<T, NarrowBody<T>> {
  explicit NarrowBody(const Narrow& given)
      : FlatBody<T, NarrowBody>(given.count, {given.from, given.to}), k(given) {}
  template <class Floats, class Stored>
  RM_DEVICE void run(std::int64_t first, int n) const {
    float x[kGroup];
    bodies::load<Floats>(k.from + first, n, x);
    Stored::store(static_cast<T*>(k.to) + first, n, x);
  }
  Narrow k;
};
template <class T>
struct WidenBody : FlatBody<T, WidenBody<T>> {
  explicit WidenBody(const Widen& given)
      : FlatBody<T, WidenBody>(given.count, {given.from, given.to}), k(given) {}
  template <class Floats, class Stored>
  RM_DEVICE void run(std::int64_t first, int n) const {
    float x[kGroup];
    bodies::load<Stored>(static_cast<const T*>(k.from) + first, n, x);
    Floats::store(k.to + first, n, x);
  }
  Widen k;
};

// --- launchers -----------------------------------------------------------------------------------

template <class Runner, class Body>
void run_flat(Queue queue, const char* name, const Body& body) {
  const std::int64_t groups = groups_of(body.count);
  require(body.count >= 0 && groups < 1LL << 31, name, "needs 0 <= count < 2^34");
  Runner::rows(queue, name, body, groups, kGroup);
}

template <class Runner>
void unscale(Queue queue, const Unscale& k) {
  run_flat<Runner>(queue, "unscale", UnscaleBody(k));
}
template <class Runner>
void find_overflow(Queue queue, const FindOverflow& k) {
  Runner::once(queue, "find_overflow", BeginSearch{k.state, k.scaled});
  run_flat<Runner>(queue, "find_overflow", FindOverflowBody(k));
}
template <class T, class Runner>
void sgd(Queue queue, const Sgd& k) {
  run_flat<Runner>(queue, "sgd", SgdBody<T>(k));
}
template <class Runner>
void adjust_scale(Queue queue, const AdjustScale& k) {
  Runner::once(queue, "adjust_scale", AdjustScaleBody{k.state, k.fixed});
}
template <class T, class Runner>
void narrow(Queue queue, const Narrow& k) {
  run_flat<Runner>(queue, "narrow", NarrowBody<T>(k));
}
template <class T, class Runner>
void widen(Queue queue, const Widen& k) {
  run_flat<Runner>(queue, "widen", WidenBody<T>(k));
}

template <class T, class Runner>
void add_optimizer_kernels(Kernels& kernels) {
  kernels.unscale = unscale<Runner>;
  kernels.find_overflow = find_overflow<Runner>;
  kernels.sgd = sgd<T, Runner>;
  kernels.adjust_scale = adjust_scale<Runner>;
  kernels.narrow = narrow<T, Runner>;
  kernels.widen = widen<T, Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
