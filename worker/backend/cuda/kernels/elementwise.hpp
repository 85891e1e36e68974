// Bodies and launchers of what looks at one element of each operand.
#pragma once

#include "worker/backend/cuda/kernels/checks.hpp"
#include "worker/backend/cuda/kernels/rows.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker::cuda::bodies {

// The common part: a thread keeps nothing of its channels, and loads one group of each of two
// matrices, the second only where it is present.
template <class Access_>
struct TwoOperands {
  using Access = Access_;
  using T = typename Access::Value;
  using Raw = typename Access::Raw;
  static constexpr int kInFlight = in_flight<Access>(2);
  struct Values {
    Raw a, b;
  };

  TwoOperands(const Matrix& first, const Matrix& second) : a(first), b(second) {}
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE Values load(Nothing, Span span, unsigned row) const {
    Values values;
    values.a = Access::load(a.at(row, span.first), span.count);
    if (b.present()) values.b = Access::load(b.at(row, span.first), span.count);
    return values;
  }
  RM_DEVICE void add_second(const Values& values, float (&x)[kGroup]) const {
    if (!b.present()) return;
    float second[kGroup];
    Access::unpack(values.b, second);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] += second[i];
  }

  View<const T> a, b;
};

// What is added to is the second operand.
inline Matrix when(bool accumulate, const Matrix& m) { return accumulate ? m : Matrix{}; }

template <class Access>
struct RectifyBody : TwoOperands<Access> {
  using Base = TwoOperands<Access>;
  static constexpr int kInFlight = in_flight<Access>(4);

  explicit RectifyBody(const Rectify& k)
      : Base(k.x, Matrix{}), y(k.y), mask(k.mask, k.y.channels) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const typename Base::Values& v) const {
    float x[kGroup];
    Access::unpack(v.a, x);
    rectify_group(x, mask, row, span);
    Access::store(y.at(row, span.first), span.count, x);
  }

  View<typename Base::T> y;
  WritableMask mask;
};

template <class Access>
struct RectifyBackwardBody : TwoOperands<Access> {
  using Base = TwoOperands<Access>;

  explicit RectifyBackwardBody(const RectifyBackward& k)
      : Base(k.dy, when(k.accumulate, k.dx)), dx(k.dx), mask(k.mask, k.dy.channels) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const typename Base::Values& v) const {
    float g[kGroup];
    Access::unpack(v.a, g);
    keep_masked(g, *mask.at(row, span));
    this->add_second(v, g);
    Access::store(dx.at(row, span.first), span.count, g);
  }

  View<typename Base::T> dx;
  Mask mask;
};

template <class Access>
struct SumBody : TwoOperands<Access> {
  using Base = TwoOperands<Access>;

  explicit SumBody(const Sum& k)
      : Base(k.a, k.b), y(k.y), mask(k.mask, k.y.channels), relu(k.relu) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const typename Base::Values& v) const {
    float x[kGroup];
    Access::unpack(v.a, x);
    this->add_second(v, x);
    if (relu) rectify_group(x, mask, row, span);
    Access::store(y.at(row, span.first), span.count, x);
  }

  View<typename Base::T> y;
  WritableMask mask;
  bool relu;
};

template <class Access>
struct CopyBody : TwoOperands<Access> {
  using Base = TwoOperands<Access>;

  explicit CopyBody(const Copy& k)
      : Base(k.from, when(k.accumulate, k.to)), to(k.to), factor(k.factor) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const typename Base::Values& v) const {
    float x[kGroup];
    Access::unpack(v.a, x);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] *= factor;
    this->add_second(v, x);
    Access::store(to.at(row, span.first), span.count, x);
  }

  View<typename Base::T> to;
  float factor;
};

template <class Access_>
struct AddBiasBody {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kInFlight = in_flight<Access>(4);
  struct Channels {
    float bias[kGroup];
  };

  explicit AddBiasBody(const AddBias& k)
      : x(k.x), y(k.y), mask(k.mask, k.y.channels), bias(k.bias), relu(k.relu) {}
  RM_DEVICE Channels begin(Span span) const {
    Channels channels;
    load_channels(bias, span, channels.bias);
    return channels;
  }
  RM_DEVICE auto load(const Channels&, Span span, unsigned row) const {
    return Access::load(x.at(row, span.first), span.count);
  }
  RM_DEVICE void finish(const Channels& channels, Span span, unsigned row,
                        const typename Access::Raw& raw) const {
    float v[kGroup];
    Access::unpack(raw, v);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) v[i] += channels.bias[i];
    if (relu) rectify_group(v, mask, row, span);
    Access::store(y.at(row, span.first), span.count, v);
  }

  View<const T> x;
  View<T> y;
  WritableMask mask;
  const float* bias;
  bool relu;
};

// --- pictures ------------------------------------------------------------------------------------

// Threads side by side have pixels side by side as long as y has no more than one group: each
// plane of the pictures is then read in whole lines.
template <class Access_>
struct LoadPicturesBody {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kInFlight = in_flight<Access>(2);
  struct Values {
    float x[kGroup];
  };

  explicit LoadPicturesBody(const LoadPictures& k)
      : images(k.images),
        y(k.y.pixels),
        pixels(static_cast<unsigned>(k.y.height) * static_cast<unsigned>(k.y.width)),
        planes(k.channels),
        factor(k.factor) {}
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE Values load(Nothing, Span span, unsigned row) const {
    const unsigned image = row / pixels, pixel = row - image * pixels;
    const float* at =
        images + (static_cast<std::int64_t>(image) * planes + span.first) * pixels + pixel;
    Values values;
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      const bool there = i < span.count && span.first + i < planes;
      values.x[i] = there ? at[static_cast<std::int64_t>(i) * pixels] * factor : 0.0F;
    }
    return values;
  }
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const Values& values) const {
    Access::store(y.at(row, span.first), span.count, values.x);
  }

  const float* images;
  View<T> y;
  unsigned pixels;
  int planes;
  float factor;
};

// Threads side by side have pixels side by side, as above.
template <class Access_>
struct LoadRawPicturesBody {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kInFlight = in_flight<Access>(2), kColours = 3;
  struct Values {
    float x[kGroup];
  };

  explicit LoadRawPicturesBody(const LoadRawPictures& k)
      : bytes(k.pixels),
        windows(k.windows),
        y(k.y.pixels),
        side(static_cast<unsigned>(k.side)),
        size(static_cast<unsigned>(k.y.width)),
        pixels(size * size),
        factor(k.factor) {
    for (int c = 0; c < kColours; ++c) scale[c] = picture_scale(c), shift[c] = picture_shift(c);
  }
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE Values load(Nothing, Span span, unsigned row) const {
    Values values{};
    if (span.first != 0) return values;
    const unsigned image = row / pixels, pixel = row - image * pixels;
    const unsigned down = pixel / size, across = pixel - down * size;
    const PictureWindow window = windows[image];
    const unsigned top = static_cast<unsigned>(window.top) + down;
    const unsigned left =
        static_cast<unsigned>(window.left) + (window.mirrored != 0 ? size - 1 - across : across);
    const std::uint8_t* at =
        bytes + (static_cast<std::uint64_t>(image) * side * side + top * side + left) * kColours;
    RM_UNROLL
    for (int c = 0; c < kColours; ++c) {
      values.x[c] = product_and_sum(static_cast<float>(at[c]), scale[c], shift[c]) * factor;
    }
    return values;
  }
  RM_DEVICE void finish(Nothing, Span span, unsigned row, const Values& values) const {
    Access::store(y.at(row, span.first), span.count, values.x);
  }

  const std::uint8_t* bytes;
  const PictureWindow* windows;
  View<T> y;
  unsigned side, size, pixels;
  float factor;
  float scale[kColours], shift[kColours];
};

// --- dropout -------------------------------------------------------------------------------------

RM_DEVICE std::uint64_t splitmix(std::uint64_t x) {  // as splitmix64() of the nets
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

template <class Access>
struct DropoutBody : TwoOperands<Access> {
  using Base = TwoOperands<Access>;
  struct Key {
    std::uint64_t key;
  };

  explicit DropoutBody(const Dropout& k)
      : Base(k.x, when(k.accumulate, k.y)),
        y(k.y),
        channels(k.x.channels),
        // A draw is the upper 53 bits as a fraction of 1; it keeps the element when it is not less
        // than the probability, which in whole numbers is this.
        least_kept(static_cast<std::uint64_t>(std::ceil(k.probability * 0x1p53))),
        factor(static_cast<float>(1 / (1 - k.probability))),
        seed(k.seed),
        pass(k.pass) {}
  RM_DEVICE Key begin(Span) const { return {splitmix(seed + static_cast<std::uint64_t>(*pass))}; }
  RM_DEVICE auto load(Key, Span span, unsigned row) const {
    return Base::load(Nothing{}, span, row);
  }
  RM_DEVICE void finish(Key key, Span span, unsigned row, const typename Base::Values& v) const {
    float x[kGroup];
    Access::unpack(v.a, x);
    const std::uint64_t first =
        static_cast<std::uint64_t>(row) * static_cast<std::uint64_t>(channels) +
        static_cast<std::uint64_t>(span.first);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      const std::uint64_t draw = splitmix(key.key + first + static_cast<std::uint64_t>(i)) >> 11;
      x[i] = draw >= least_kept ? x[i] * factor : 0.0F;
    }
    this->add_second(v, x);
    Access::store(y.at(row, span.first), span.count, x);
  }

  View<typename Base::T> y;
  int channels;
  std::uint64_t least_kept;
  float factor;
  std::uint64_t seed;
  const std::int64_t* pass;
};

// --- launchers -----------------------------------------------------------------------------------

// Body<Access> over all groups of `x`; `all` are the matrices that it touches.
template <class T, class Runner, template <class> class Body, class Arguments>
void run_elementwise(Queue queue, const char* name, const Arguments& k, const Matrix& x,
                     std::initializer_list<Matrix> all) {
  for (const Matrix& m : all) require_alike(name, x, m);
  by_access<T>(in_vectors<T>(all), [&](auto access) {
    Runner::rows(queue, name, Body<decltype(access)>(k), x.rows, x.channels);
  });
}

inline void require_picture(const char* kernel, const Picture& p) {
  require_alike(kernel, p.pixels, p.pixels);
  require(p.images > 0 && p.height > 0 && p.width > 0, kernel, "needs images, height, width > 0");
  require(std::int64_t{p.images} * p.height * p.width == p.pixels.rows, kernel,
          "rows must be images x height x width");
}

template <class T, class Runner>
void load_pictures(Queue queue, const LoadPictures& k) {
  require_picture("load_pictures", k.y);
  run_elementwise<T, Runner, LoadPicturesBody>(queue, "load_pictures", k, k.y.pixels, {k.y.pixels});
}
template <class T, class Runner>
void load_raw_pictures(Queue queue, const LoadRawPictures& k) {
  constexpr const char* kName = "load_raw_pictures";
  constexpr int kMostSide = 1 << 15;  // pixels of a picture are counted in 32 bits
  require_picture(kName, k.y);
  require(k.pixels != nullptr && k.windows != nullptr, kName, "pixels or windows are null");
  require(k.y.height == k.y.width && k.y.width <= k.side && k.side <= kMostSide, kName,
          "needs height = width <= side <= 2^15");
  require(k.y.pixels.channels >= 3, kName, "needs at least 3 channels");
  run_elementwise<T, Runner, LoadRawPicturesBody>(queue, kName, k, k.y.pixels, {k.y.pixels});
}
template <class T, class Runner>
void rectify(Queue queue, const Rectify& k) {
  run_elementwise<T, Runner, RectifyBody>(queue, "rectify", k, k.x, {k.x, k.y});
}
template <class T, class Runner>
void rectify_backward(Queue queue, const RectifyBackward& k) {
  require(k.mask != nullptr, "rectify_backward", "mask is null");
  run_elementwise<T, Runner, RectifyBackwardBody>(queue, "rectify_backward", k, k.dy, {k.dy, k.dx});
}
template <class T, class Runner>
void sum(Queue queue, const Sum& k) {
  run_elementwise<T, Runner, SumBody>(queue, "sum", k, k.a, {k.a, k.b, k.y});
}
template <class T, class Runner>
void copy(Queue queue, const Copy& k) {
  run_elementwise<T, Runner, CopyBody>(queue, "copy", k, k.from, {k.from, k.to});
}
template <class T, class Runner>
void add_bias(Queue queue, const AddBias& k) {
  require(k.bias != nullptr, "add_bias", "bias is null");
  run_elementwise<T, Runner, AddBiasBody>(queue, "add_bias", k, k.x, {k.x, k.y});
}
template <class T, class Runner>
void dropout(Queue queue, const Dropout& k) {
  require(k.probability >= 0 && k.probability <= 1, "dropout", "probability must be 0 to 1");
  require(k.pass != nullptr, "dropout", "pass is null");
  run_elementwise<T, Runner, DropoutBody>(queue, "dropout", k, k.x, {k.x, k.y});
}

template <class T, class Runner>
void add_elementwise_kernels(Kernels& kernels) {
  kernels.load_pictures = load_pictures<T, Runner>;
  kernels.load_raw_pictures = load_raw_pictures<T, Runner>;
  kernels.rectify = rectify<T, Runner>;
  kernels.rectify_backward = rectify_backward<T, Runner>;
  kernels.sum = sum<T, Runner>;
  kernels.copy = copy<T, Runner>;
  kernels.add_bias = add_bias<T, Runner>;
  kernels.dropout = dropout<T, Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
