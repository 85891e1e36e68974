// Bodies and launchers of pooling. Forward: a thread has one output pixel and 8 channels. Backward
// gathers: an input pixel looks at the windows that cover it, in the order of outputs, so that no
// two threads add to the same place.
#pragma once

#include "worker/backend/cuda/kernels/elementwise.hpp"

namespace rackmark::worker::cuda::bodies {

struct Between {  // [first, last)
  int first, last;
};
RM_DEVICE int larger(int a, int b) { return a > b ? a : b; }
RM_DEVICE int smaller(int a, int b) { return a < b ? a : b; }

struct PoolShape {
  unsigned in_height, in_width, out_height, out_width;
  Windows windows;

  PoolShape(const Picture& in, const Picture& out, const Windows& given)
      : in_height(static_cast<unsigned>(in.height)),
        in_width(static_cast<unsigned>(in.width)),
        out_height(static_cast<unsigned>(out.height)),
        out_width(static_cast<unsigned>(out.width)),
        windows(given) {}

  // Inputs under an output, cut to the picture.
  RM_DEVICE Between under(int out, unsigned outs, unsigned extent) const {
    const int ins = static_cast<int>(extent), all = static_cast<int>(outs);
    if (windows.adaptive) return {out * ins / all, ((out + 1) * ins + all - 1) / all};
    const int start = start_of(out);
    return {larger(start, 0), smaller(start + windows.kernel, ins)};
  }
  // Outputs whose window covers an input.
  RM_DEVICE Between over(int in, unsigned outs, unsigned extent) const {
    const int ins = static_cast<int>(extent), all = static_cast<int>(outs);
    if (windows.adaptive) return {in * all / ins, ((in + 1) * all + ins - 1) / ins};
    const int padded = in + windows.pad, beyond = padded - windows.kernel;  // its window ends there
    return {beyond < 0 ? 0 : beyond / windows.stride + 1,
            smaller(padded / windows.stride + 1, all)};
  }
  RM_DEVICE int start_of(int out) const { return out * windows.stride - windows.pad; }
  RM_DEVICE float share(const Between& h, const Between& w) const {
    const int size = windows.adaptive ? (h.last - h.first) * (w.last - w.first)
                                      : windows.kernel * windows.kernel;
    return 1.0F / static_cast<float>(size);
  }
};

struct Pixel {
  unsigned image;
  int h, w;
};
RM_DEVICE Pixel pixel_of(unsigned row, unsigned height, unsigned width) {
  const unsigned line = row / width, image = line / height;
  return {image, static_cast<int>(line - image * height), static_cast<int>(row - line * width)};
}
RM_DEVICE unsigned row_of(unsigned image, int h, int w, unsigned height, unsigned width) {
  return (image * height + static_cast<unsigned>(h)) * width + static_cast<unsigned>(w);
}

// use(h, w, group) for every input of a window, three of a line loaded at a time.
template <class Access, class Use>
RM_DEVICE void for_window(const View<const typename Access::Value>& x, const PoolShape& shape,
                          unsigned image, const Between& h, const Between& w, Span span,
                          const Use& use) {
  constexpr int kInFlight = 3;
  for (int ih = h.first; ih < h.last; ++ih) {
    for (int iw = w.first; iw < w.last; iw += kInFlight) {
      const unsigned row = row_of(image, ih, iw, shape.in_height, shape.in_width);
      typename Access::Raw raw[kInFlight] = {};
      RM_UNROLL
      for (int i = 0; i < kInFlight; ++i) {
        if (iw + i < w.last) {
          raw[i] = Access::load(x.at(row + static_cast<unsigned>(i), span.first), span.count);
        }
      }
      RM_UNROLL
      for (int i = 0; i < kInFlight; ++i) {
        if (iw + i >= w.last) continue;
        float v[kGroup];
        Access::unpack(raw[i], v);
        use(ih, iw + i, v);
      }
    }
  }
}

// A body that does all of its work in finish().
template <class Access_>
struct Unloaded {
  using Access = Access_;
  using T = typename Access::Value;
  static constexpr int kInFlight = 1;
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE Nothing load(Nothing, Span, unsigned) const { return {}; }
};

// The largest value of a window and its place there: the first of equals; NaN beats every number.
struct Largest {
  float best[kGroup];
  int place[kGroup];

  RM_DEVICE explicit Largest(int first_place) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      best[i] = -HUGE_VALF;
      place[i] = first_place;
    }
  }
  RM_DEVICE void see(const float (&v)[kGroup], int here) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (v[i] > best[i] || v[i] != v[i]) {
        best[i] = v[i];
        place[i] = here;
      }
    }
  }
};

template <class Access>
struct MaxPoolBody : Unloaded<Access> {
  using T = typename Access::Value;

  explicit MaxPoolBody(const MaxPool& k)
      : x(k.x.pixels),
        y(k.y.pixels),
        shape(k.x, k.y, k.windows),
        winner(k.winner),
        channels(k.y.pixels.channels) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, Nothing) const {
    const Pixel out = pixel_of(row, shape.out_height, shape.out_width);
    const Between h = shape.under(out.h, shape.out_height, shape.in_height);
    const Between w = shape.under(out.w, shape.out_width, shape.in_width);
    const int top = shape.start_of(out.h), left = shape.start_of(out.w);
    Largest largest((h.first - top) * shape.windows.kernel + w.first - left);
    for_window<Access>(x, shape, out.image, h, w, span,
                       [&](int ih, int iw, const float(&v)[kGroup]) {
                         largest.see(v, (ih - top) * shape.windows.kernel + iw - left);
                       });
    Access::store(y.at(row, span.first), span.count, largest.best);
    if (winner != nullptr) {
      Access::store_bytes(winner + static_cast<std::int64_t>(row) * channels + span.first,
                          span.count, largest.place);
    }
  }

  View<const T> x;
  View<T> y;
  PoolShape shape;
  std::uint8_t* winner;
  int channels;
};

// The common part of both backward passes: finish() writes what add_window() added up.
template <class Access, class Derived>
struct PoolGather : Unloaded<Access> {
  using T = typename Access::Value;

  PoolGather(const Picture& dy_given, const Picture& dx_given, const Windows& windows, bool add)
      : dy(dy_given.pixels),
        dx(dx_given.pixels),
        shape(dx_given, dy_given, windows),
        accumulate(add) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, Nothing) const {
    const Pixel in = pixel_of(row, shape.in_height, shape.in_width);
    const Between h = shape.over(in.h, shape.out_height, shape.in_height);
    const Between w = shape.over(in.w, shape.out_width, shape.in_width);
    float sum[kGroup] = {};
    for (int oh = h.first; oh < h.last; ++oh) {
      for (int ow = w.first; ow < w.last; ++ow) {
        const unsigned out = row_of(in.image, oh, ow, shape.out_height, shape.out_width);
        float g[kGroup];
        bodies::load<Access>(dy.at(out, span.first), span.count, g);
        static_cast<const Derived*>(this)->add_window(in, oh, ow, out, span, g, sum);
      }
    }
    if (accumulate) {
      float before[kGroup];
      bodies::load<Access>(dx.at(row, span.first), span.count, before);
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) sum[i] += before[i];
    }
    Access::store(dx.at(row, span.first), span.count, sum);
  }

  View<const T> dy;
  View<T> dx;
  PoolShape shape;
  bool accumulate;
};

template <class Access>
struct MaxPoolBackwardBody : PoolGather<Access, MaxPoolBackwardBody<Access>> {
  explicit MaxPoolBackwardBody(const MaxPoolBackward& k)
      : PoolGather<Access, MaxPoolBackwardBody>(k.dy, k.dx, k.windows, k.accumulate),
        winner(k.winner),
        channels(k.dy.pixels.channels) {}
  RM_DEVICE void add_window(const Pixel& in, int oh, int ow, unsigned out, Span span,
                            const float (&g)[kGroup], float (&sum)[kGroup]) const {
    const auto& shape = this->shape;
    const int here = (in.h - shape.start_of(oh)) * shape.windows.kernel + in.w - shape.start_of(ow);
    int place[kGroup];
    Access::load_bytes(winner + static_cast<std::int64_t>(out) * channels + span.first, span.count,
                       place);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (place[i] == here) sum[i] += g[i];
    }
  }

  const std::uint8_t* winner;
  int channels;
};

template <class Access>
struct AveragePoolBody : Unloaded<Access> {
  using T = typename Access::Value;

  explicit AveragePoolBody(const AveragePool& k)
      : x(k.x.pixels), y(k.y.pixels), shape(k.x, k.y, k.windows) {}
  RM_DEVICE void finish(Nothing, Span span, unsigned row, Nothing) const {
    const Pixel out = pixel_of(row, shape.out_height, shape.out_width);
    const Between h = shape.under(out.h, shape.out_height, shape.in_height);
    const Between w = shape.under(out.w, shape.out_width, shape.in_width);
    float sum[kGroup] = {};
    for_window<Access>(x, shape, out.image, h, w, span, [&](int, int, const float(&v)[kGroup]) {
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) sum[i] += v[i];
    });
    const float share = shape.share(h, w);
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) sum[i] *= share;
    Access::store(y.at(row, span.first), span.count, sum);
  }

  View<const T> x;
  View<T> y;
  PoolShape shape;
};

template <class Access>
struct AveragePoolBackwardBody : PoolGather<Access, AveragePoolBackwardBody<Access>> {
  explicit AveragePoolBackwardBody(const AveragePoolBackward& k)
      : PoolGather<Access, AveragePoolBackwardBody>(k.dy, k.dx, k.windows, k.accumulate) {}
  RM_DEVICE void add_window(const Pixel&, int oh, int ow, unsigned, Span, const float (&g)[kGroup],
                            float (&sum)[kGroup]) const {
    const auto& shape = this->shape;
    const float share = shape.share(shape.under(oh, shape.out_height, shape.in_height),
                                    shape.under(ow, shape.out_width, shape.in_width));
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) sum[i] += g[i] * share;
  }
};

// --- launchers -----------------------------------------------------------------------------------

inline void require_pool(const char* name, const Picture& in, const Picture& out,
                         const Windows& windows) {
  require_picture(name, in);
  require_picture(name, out);
  require(in.images == out.images && in.pixels.channels == out.pixels.channels, name,
          "pictures differ in images or channels");
  require(windows.adaptive || (windows.kernel > 0 && windows.stride > 0 && windows.pad >= 0 &&
                               windows.pad < windows.kernel),
          name, "needs kernel > 0, stride > 0, 0 <= pad < kernel");
}
// `over`: the picture of which each pixel has a thread.
template <class T, class Runner, template <class> class Body, class Arguments>
void run_pool(Queue queue, const char* name, const Arguments& k, const Picture& in,
              const Picture& out, const Picture& over, const void* winner = nullptr) {
  require_pool(name, in, out, k.windows);
  const bool vectors = in_vectors<T>({in.pixels, out.pixels}) && is_aligned(winner, kGroup);
  by_access<T>(vectors, [&](auto access) {
    Runner::rows(queue, name, Body<decltype(access)>(k), over.pixels.rows, over.pixels.channels);
  });
}
inline void require_places(const char* kernel, const Windows& windows) {
  require(!windows.adaptive && windows.kernel <= 15, kernel,
          "a place in a window fits a byte: kernel <= 15, not adaptive");
}

template <class T, class Runner>
void max_pool(Queue queue, const MaxPool& k) {
  require_places("max_pool", k.windows);
  run_pool<T, Runner, MaxPoolBody>(queue, "max_pool", k, k.x, k.y, k.y, k.winner);
}
template <class T, class Runner>
void max_pool_backward(Queue queue, const MaxPoolBackward& k) {
  require_places("max_pool_backward", k.windows);
  require(k.winner != nullptr, "max_pool_backward", "winner is null");
  run_pool<T, Runner, MaxPoolBackwardBody>(queue, "max_pool_backward", k, k.dx, k.dy, k.dx,
                                           k.winner);
}
template <class T, class Runner>
void average_pool(Queue queue, const AveragePool& k) {
  run_pool<T, Runner, AveragePoolBody>(queue, "average_pool", k, k.x, k.y, k.y);
}
template <class T, class Runner>
void average_pool_backward(Queue queue, const AveragePoolBackward& k) {
  run_pool<T, Runner, AveragePoolBackwardBody>(queue, "average_pool_backward", k, k.dx, k.dy, k.dx);
}

template <class T, class Runner>
void add_pool_kernels(Kernels& kernels) {
  kernels.max_pool = max_pool<T, Runner>;
  kernels.max_pool_backward = max_pool_backward<T, Runner>;
  kernels.average_pool = average_pool<T, Runner>;
  kernels.average_pool_backward = average_pool_backward<T, Runner>;
}

}  // namespace rackmark::worker::cuda::bodies
