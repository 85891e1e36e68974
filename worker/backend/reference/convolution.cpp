// Convolution; a linear layer is one of 1x1 over a picture of 1x1.
#include <algorithm>

#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {
namespace {

// The loops over channels, which take all of the time, once for CPUs with wider vectors and once
// for all. Sums over rows are made in their order: the same everywhere.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define RACKMARK_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define RACKMARK_WIDE
#endif
constexpr int kRowsAtOnce = 4;  // that share what they read or write

// sum += factors[0] * row 0 + factors[1] * row 1 + ...; rows lie `count` apart.
template <class T>
[[gnu::always_inline]] inline void add_rows_body(double* __restrict sum,
                                                 const T* __restrict factors,
                                                 const T* __restrict rows, int row_count,
                                                 int count) {
  int r = 0;
  for (; r + kRowsAtOnce <= row_count; r += kRowsAtOnce) {
    const double f0 = factors[r], f1 = factors[r + 1], f2 = factors[r + 2], f3 = factors[r + 3];
    const T *r0 = rows + std::int64_t{r} * count, *r1 = r0 + count, *r2 = r1 + count,
            *r3 = r2 + count;
#pragma omp simd
    for (int i = 0; i < count; ++i) {
      sum[i] = (((sum[i] + f0 * static_cast<double>(r0[i])) + f1 * static_cast<double>(r1[i])) +
                f2 * static_cast<double>(r2[i])) +
               f3 * static_cast<double>(r3[i]);
    }
  }
  for (; r < row_count; ++r) {
    const double factor = factors[r];
    const T* row = rows + std::int64_t{r} * count;
#pragma omp simd
    for (int i = 0; i < count; ++i) sum[i] += factor * static_cast<double>(row[i]);
  }
}
RACKMARK_WIDE void add_rows(double* sum, const float* factors, const float* rows, int row_count,
                            int count) {
  add_rows_body(sum, factors, rows, row_count, count);
}
RACKMARK_WIDE void add_rows(double* sum, const double* factors, const double* rows, int row_count,
                            int count) {
  add_rows_body(sum, factors, rows, row_count, count);
}

// sums row r += factors[r] * row; rows of the sums lie `count` apart.
template <class T>
[[gnu::always_inline]] inline void add_outer_body(double* __restrict sums,
                                                  const T* __restrict factors, int factor_count,
                                                  const T* __restrict row, int count) {
  for (int r = 0; r < factor_count; ++r) {
    const double factor = factors[r];
    double* sum = sums + std::int64_t{r} * count;
#pragma omp simd
    for (int i = 0; i < count; ++i) sum[i] += factor * static_cast<double>(row[i]);
  }
}
RACKMARK_WIDE void add_outer(double* sums, const float* factors, int factor_count, const float* row,
                             int count) {
  add_outer_body(sums, factors, factor_count, row, count);
}
RACKMARK_WIDE void add_outer(double* sums, const double* factors, int factor_count,
                             const double* row, int count) {
  add_outer_body(sums, factors, factor_count, row, count);
}

// sums[r] += the product of row r and v; rows lie `count` apart.
template <class T>
[[gnu::always_inline]] inline void add_products_body(double* __restrict sums,
                                                     const T* __restrict rows, int row_count,
                                                     const T* __restrict v, int count) {
  int r = 0;
  for (; r + kRowsAtOnce <= row_count; r += kRowsAtOnce) {
    const T *r0 = rows + std::int64_t{r} * count, *r1 = r0 + count, *r2 = r1 + count,
            *r3 = r2 + count;
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int i = 0; i < count; ++i) {
      const auto value = static_cast<double>(v[i]);
      s0 += static_cast<double>(r0[i]) * value;
      s1 += static_cast<double>(r1[i]) * value;
      s2 += static_cast<double>(r2[i]) * value;
      s3 += static_cast<double>(r3[i]) * value;
    }
    sums[r] += s0;
    sums[r + 1] += s1;
    sums[r + 2] += s2;
    sums[r + 3] += s3;
  }
  for (; r < row_count; ++r) {
    const T* row = rows + std::int64_t{r} * count;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < count; ++i) sum += static_cast<double>(row[i]) * static_cast<double>(v[i]);
    sums[r] += sum;
  }
}
RACKMARK_WIDE void add_products(double* sums, const float* rows, int row_count, const float* v,
                                int count) {
  add_products_body(sums, rows, row_count, v, count);
}
RACKMARK_WIDE void add_products(double* sums, const double* rows, int row_count, const double* v,
                                int count) {
  add_products_body(sums, rows, row_count, v, count);
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
            add_rows(sum.data(), x, tap(c_.weight, kh, kw), in_.channels, out_.channels);
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
                     add_outer(sum.data(), x + first, rows, dout + pixel * out_.channels,
                               out_.channels);
                   });
                   std::copy(sum.begin(), sum.end(),
                             tap(c_.weight_gradient, kh, kw) + std::int64_t{first} * out_.channels);
                 });
    if (c_.bias_gradient == nullptr) return;
    std::vector<double> sum(out_.channels);
    for_each_pixel([&](std::int64_t, int, int, std::int64_t pixel) {
      const T one = 1;
      add_outer(sum.data(), &one, 1, dout + pixel * out_.channels, out_.channels);
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
            add_products(sum.data(), tap(c_.weight, kh, kw), in_.channels, dy, out_.channels);
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
