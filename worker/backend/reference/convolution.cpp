// Convolution; a linear layer is one of 1x1 over a picture of 1x1.
#include <algorithm>

#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {
namespace {

template <class T>
void add_scaled(double* __restrict sum, double factor, const T* __restrict row, int count) {
#pragma omp simd
  for (int i = 0; i < count; ++i) sum[i] += factor * static_cast<double>(row[i]);
}

template <class T>
double dot(const T* __restrict a, const T* __restrict b, int count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

template <class T>
class Convolution final : public Op<T> {
 public:
  Convolution(const Conv2d& layer, const Context<T>& context)
      : layer_(layer), c_(context), in_(context.in.front()), out_(context.out) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    parallel_for(c_.threads, std::int64_t{c_.batch} * out_.height, [&](std::int64_t row) {
      const std::int64_t image = row / out_.height;
      const int oh = static_cast<int>(row % out_.height);
      std::vector<double> sum(out_.channels);
      for (int ow = 0; ow < out_.width; ++ow) {
        start_with_bias(sum);
        for (int kh = 0; kh < layer_.kernel_h; ++kh) {
          for (int kw = 0; kw < layer_.kernel_w; ++kw) {
            const T* x = input_pixel(in[0], image, oh, ow, kh, kw);
            if (x == nullptr) continue;
            const T* w = tap(c_.weight, kh, kw);
            for (int ic = 0; ic < in_.channels; ++ic, w += out_.channels) {
              add_scaled(sum.data(), x[ic], w, out_.channels);
            }
          }
        }
        std::copy(sum.begin(), sum.end(), out + (row * out_.width + ow) * out_.channels);
      }
    });
  }

  void backward_weights(Inputs<T> in, const T* dout) override {
    // A few input channels at a time: dout is read once for all of them.
    constexpr int kRows = 8;
    const int blocks = (in_.channels + kRows - 1) / kRows;
    parallel_for(c_.threads, std::int64_t{layer_.kernel_h} * layer_.kernel_w * blocks,
                 [&](std::int64_t task) {
                   const int first = static_cast<int>(task % blocks) * kRows;
                   const int rows = std::min(kRows, in_.channels - first);
                   const int kh = static_cast<int>(task / blocks) / layer_.kernel_w;
                   const int kw = static_cast<int>(task / blocks) % layer_.kernel_w;
                   std::vector<double> sum(static_cast<std::size_t>(rows) * out_.channels);
                   for_each_pixel([&](std::int64_t image, int oh, int ow, std::int64_t pixel) {
                     const T* x = input_pixel(in[0], image, oh, ow, kh, kw);
                     if (x == nullptr) return;
                     for (int r = 0; r < rows; ++r) {
                       add_scaled(&sum[std::size_t(r) * out_.channels], x[first + r],
                                  dout + pixel * out_.channels, out_.channels);
                     }
                   });
                   std::copy(sum.begin(), sum.end(),
                             tap(c_.weight_gradient, kh, kw) + std::int64_t{first} * out_.channels);
                 });
    if (c_.bias_gradient == nullptr) return;
    std::vector<double> sum(out_.channels);
    for_each_pixel([&](std::int64_t, int, int, std::int64_t pixel) {
      add_scaled(sum.data(), 1, dout + pixel * out_.channels, out_.channels);
    });
    std::copy(sum.begin(), sum.end(), c_.bias_gradient);
  }

  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    parallel_for(c_.threads, std::int64_t{c_.batch} * in_.height, [&](std::int64_t row) {
      const std::int64_t image = row / in_.height;
      const int ih = static_cast<int>(row % in_.height);
      std::vector<double> sum(in_.channels);
      for (int iw = 0; iw < in_.width; ++iw) {
        std::fill(sum.begin(), sum.end(), 0);
        for (int kh = 0; kh < layer_.kernel_h; ++kh) {
          for (int kw = 0; kw < layer_.kernel_w; ++kw) {
            const T* dy = output_pixel(dout, image, ih, iw, kh, kw);
            if (dy == nullptr) continue;
            const T* w = tap(c_.weight, kh, kw);
            for (int ic = 0; ic < in_.channels; ++ic, w += out_.channels) {
              sum[ic] += dot(w, dy, out_.channels);
            }
          }
        }
        T* dx = din[0] + (row * in_.width + iw) * in_.channels;
        for (int ic = 0; ic < in_.channels; ++ic) dx[ic] += static_cast<T>(sum[ic]);
      }
    });
  }

 private:
  void start_with_bias(std::vector<double>& sum) const {
    if (c_.bias != nullptr) {
      std::copy_n(c_.bias, out_.channels, sum.begin());
    } else {
      std::fill(sum.begin(), sum.end(), 0);
    }
  }

  // The (in, out) matrix of one position in the kernel.
  template <class P>
  P* tap(P* weight, int kh, int kw) const {
    return weight +
           (std::int64_t{kh} * layer_.kernel_w + kw) * in_.channels * std::int64_t{out_.channels};
  }

  // The input under one position of the kernel; null in the padding.
  const T* input_pixel(const T* x, std::int64_t image, int oh, int ow, int kh, int kw) const {
    const int ih = oh * layer_.stride - layer_.pad_h + kh;
    const int iw = ow * layer_.stride - layer_.pad_w + kw;
    if (ih < 0 || ih >= in_.height || iw < 0 || iw >= in_.width) return nullptr;
    return x + ((image * in_.height + ih) * in_.width + iw) * in_.channels;
  }

  // The output that saw this input at one position of the kernel; null where there is none.
  const T* output_pixel(const T* y, std::int64_t image, int ih, int iw, int kh, int kw) const {
    const int h = ih + layer_.pad_h - kh, w = iw + layer_.pad_w - kw;
    if (h < 0 || w < 0 || h % layer_.stride != 0 || w % layer_.stride != 0) return nullptr;
    const int oh = h / layer_.stride, ow = w / layer_.stride;
    if (oh >= out_.height || ow >= out_.width) return nullptr;
    return y + ((image * out_.height + oh) * out_.width + ow) * out_.channels;
  }

  template <class Body>
  void for_each_pixel(const Body& body) const {
    std::int64_t pixel = 0;
    for (std::int64_t image = 0; image < c_.batch; ++image) {
      for (int oh = 0; oh < out_.height; ++oh) {
        for (int ow = 0; ow < out_.width; ++ow) body(image, oh, ow, pixel++);
      }
    }
  }

  Conv2d layer_;
  Context<T> c_;
  Shape in_, out_;
};

}  // namespace

template <class T>
std::unique_ptr<Op<T>> make_op(const Conv2d& layer, const Context<T>& context) {
  return std::make_unique<Convolution<T>>(layer, context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const Linear& layer, const Context<T>& context) {
  return std::make_unique<Convolution<T>>(Conv2d{.out = layer.out, .bias = layer.bias}, context);
}

template std::unique_ptr<Op<float>> make_op(const Conv2d&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Conv2d&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const Linear&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Linear&, const Context<double>&);

}  // namespace rackmark::worker::reference
