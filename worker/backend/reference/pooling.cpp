#include <algorithm>
#include <limits>

#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {
namespace {

// Input rows or columns under one output: [first, last), cut to the picture.
struct Window {
  int first, last;
};

Window sliding(int out, int kernel, int stride, int pad, int extent) {
  const int start = out * stride - pad;
  return {std::max(start, 0), std::min(start + kernel, extent)};
}

// Windows of equal share; they overlap when `extent` is not a multiple of `outs`.
Window share(int out, int outs, int extent) {
  return {out * extent / outs, ((out + 1) * extent + outs - 1) / outs};
}

template <class T>
class MaxPooling final : public Op<T> {
 public:
  MaxPooling(const MaxPool& layer, const Context<T>& context)
      : layer_(layer),
        c_(context),
        in_(context.in.front()),
        winner_(static_cast<std::size_t>(context.batch * context.out.elements())) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    const Shape& o = c_.out;
    parallel_for(c_.threads, std::int64_t{c_.batch} * o.height, [&](std::int64_t row) {
      const std::int64_t image = row / o.height;
      const Window h = along(static_cast<int>(row % o.height), in_.height);
      for (int ow = 0; ow < o.width; ++ow) {
        const Window w = along(ow, in_.width);
        for (int c = 0; c < o.channels; ++c) {
          const std::int64_t best = largest(in[0], image, h, w, c);
          const std::int64_t at = (row * o.width + ow) * o.channels + c;
          winner_[static_cast<std::size_t>(at)] = best;
          out[at] = in[0][best];
        }
      }
    });
  }

  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    parallel_for(c_.threads, c_.batch, [&](std::int64_t image) {
      const std::int64_t size = c_.out.elements();
      for (std::int64_t i = image * size; i < (image + 1) * size; ++i) {
        din[0][winner_[static_cast<std::size_t>(i)]] += dout[i];
      }
    });
  }

 private:
  Window along(int out, int extent) const {
    return sliding(out, layer_.kernel, layer_.stride, layer_.pad, extent);
  }

  // Index of the largest element; the first of equals, and a NaN wins over every number.
  std::int64_t largest(const T* x, std::int64_t image, Window h, Window w, int c) const {
    std::int64_t best = -1;
    for (int ih = h.first; ih < h.last; ++ih) {
      for (int iw = w.first; iw < w.last; ++iw) {
        const std::int64_t at = ((image * in_.height + ih) * in_.width + iw) * in_.channels + c;
        if (best < 0 || x[at] > x[best] || x[at] != x[at]) best = at;
      }
    }
    return best;
  }

  MaxPool layer_;
  Context<T> c_;
  Shape in_;
  std::vector<std::int64_t> winner_;  // of every output, index into the input
};

// Average and adaptive average pooling: they differ in windows and divisor.
template <class T>
class AveragePooling : public Op<T> {
 public:
  explicit AveragePooling(const Context<T>& context) : c_(context), in_(context.in.front()) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    const Shape& o = c_.out;
    parallel_for(c_.threads, std::int64_t{c_.batch} * o.height, [&](std::int64_t row) {
      std::vector<double> sum(o.channels);
      for (int ow = 0; ow < o.width; ++ow) {
        std::fill(sum.begin(), sum.end(), 0);
        const double divisor = visit(row, ow, [&](std::int64_t at) {
          for (int c = 0; c < o.channels; ++c) sum[c] += in[0][at + c];
        });
        T* y = out + (row * o.width + ow) * o.channels;
        for (int c = 0; c < o.channels; ++c) y[c] = static_cast<T>(sum[c] / divisor);
      }
    });
  }

  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    const Shape& o = c_.out;
    parallel_for(c_.threads, c_.batch, [&](std::int64_t image) {  // windows of an image overlap
      for (std::int64_t row = image * o.height; row < (image + 1) * o.height; ++row) {
        for (int ow = 0; ow < o.width; ++ow) {
          const T* dy = dout + (row * o.width + ow) * o.channels;
          const double divisor = visit(row, ow, [](std::int64_t) {});
          visit(row, ow, [&](std::int64_t at) {
            for (int c = 0; c < o.channels; ++c) din[0][at + c] += static_cast<T>(dy[c] / divisor);
          });
        }
      }
    });
  }

 protected:
  virtual Window along(int out, int outs, int extent) const = 0;
  virtual double divisor(Window h, Window w) const = 0;

  Context<T> c_;
  Shape in_;

 private:
  // body(offset of the first channel) for every pixel of a window; returns its divisor.
  template <class Body>
  double visit(std::int64_t row, int ow, const Body& body) const {
    const std::int64_t image = row / c_.out.height;
    const Window h = along(static_cast<int>(row % c_.out.height), c_.out.height, in_.height);
    const Window w = along(ow, c_.out.width, in_.width);
    for (int ih = h.first; ih < h.last; ++ih) {
      for (int iw = w.first; iw < w.last; ++iw) {
        body(((image * in_.height + ih) * in_.width + iw) * in_.channels);
      }
    }
    return divisor(h, w);
  }
};

template <class T>
class SlidingAverage final : public AveragePooling<T> {
 public:
  SlidingAverage(const AveragePool& layer, const Context<T>& context)
      : AveragePooling<T>(context), layer_(layer) {}

 private:
  Window along(int out, int, int extent) const override {
    return sliding(out, layer_.kernel, layer_.stride, layer_.pad, extent);
  }
  double divisor(Window, Window) const override {  // counts the padding
    return static_cast<double>(layer_.kernel) * layer_.kernel;
  }
  AveragePool layer_;
};

template <class T>
class AdaptiveAverage final : public AveragePooling<T> {
 public:
  using AveragePooling<T>::AveragePooling;

 private:
  Window along(int out, int outs, int extent) const override { return share(out, outs, extent); }
  double divisor(Window h, Window w) const override {
    return static_cast<double>(h.last - h.first) * (w.last - w.first);
  }
};

}  // namespace

template <class T>
std::unique_ptr<Op<T>> make_op(const MaxPool& layer, const Context<T>& context) {
  return std::make_unique<MaxPooling<T>>(layer, context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const AveragePool& layer, const Context<T>& context) {
  return std::make_unique<SlidingAverage<T>>(layer, context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const AdaptiveAveragePool&, const Context<T>& context) {
  return std::make_unique<AdaptiveAverage<T>>(context);
}

template std::unique_ptr<Op<float>> make_op(const MaxPool&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const MaxPool&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const AveragePool&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const AveragePool&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const AdaptiveAveragePool&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const AdaptiveAveragePool&, const Context<double>&);

}  // namespace rackmark::worker::reference
