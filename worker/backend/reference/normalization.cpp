#include <algorithm>
#include <cmath>

#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {
namespace {

// y = weight * (x - mean) / sqrt(var + epsilon) + bias, statistics per channel over the batch.
template <class T>
class BatchNormalization final : public Op<T> {
 public:
  BatchNormalization(const BatchNorm& layer, const Context<T>& context)
      : layer_(layer),
        c_(context),
        channels_(context.out.channels),
        pixels_(std::int64_t{context.batch} * context.out.height * context.out.width),
        mean_(channels_),
        inverse_std_(channels_),
        weight_gradient_(channels_),
        bias_gradient_(channels_) {}

  void forward(Inputs<T> in, T* out, Pass pass) override {
    if (pass == Pass::kTraining) {
      measure(in[0]);
    } else {
      for (int c = 0; c < channels_; ++c) {
        mean_[c] = c_.running_mean[c];
        inverse_std_[c] = 1 / std::sqrt(static_cast<double>(c_.running_var[c]) + layer_.epsilon);
      }
    }
    parallel_for(c_.threads, pixels_, [&](std::int64_t pixel) {
      const T* x = in[0] + pixel * channels_;
      T* y = out + pixel * channels_;
      for (int c = 0; c < channels_; ++c) {
        y[c] = static_cast<T>(normalized(x, c) * c_.weight[c] + c_.bias[c]);
      }
    });
  }

  void backward_weights(Inputs<T> in, const T* dout) override {
    for_channel_blocks([&](int first, int last) {
      std::fill(&weight_gradient_[first], &weight_gradient_[0] + last, 0);
      std::fill(&bias_gradient_[first], &bias_gradient_[0] + last, 0);
      for (std::int64_t pixel = 0; pixel < pixels_; ++pixel) {
        const T* x = in[0] + pixel * channels_;
        const T* dy = dout + pixel * channels_;
        for (int c = first; c < last; ++c) {
          weight_gradient_[c] += dy[c] * normalized(x, c);
          bias_gradient_[c] += dy[c];
        }
      }
    });
    std::copy(weight_gradient_.begin(), weight_gradient_.end(), c_.weight_gradient);
    std::copy(bias_gradient_.begin(), bias_gradient_.end(), c_.bias_gradient);
  }

  // Mean and variance depend on x too: the means of dy and of dy * x^ are taken away again.
  void backward_data(Inputs<T> in, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    const double n = static_cast<double>(pixels_);
    parallel_for(c_.threads, pixels_, [&](std::int64_t pixel) {
      const T* x = in[0] + pixel * channels_;
      const T* dy = dout + pixel * channels_;
      T* dx = din[0] + pixel * channels_;
      for (int c = 0; c < channels_; ++c) {
        const double centered =
            dy[c] - bias_gradient_[c] / n - normalized(x, c) * weight_gradient_[c] / n;
        dx[c] += static_cast<T>(c_.weight[c] * inverse_std_[c] * centered);
      }
    });
  }

 private:
  double normalized(const T* x, int c) const { return (x[c] - mean_[c]) * inverse_std_[c]; }

  // Statistics of this batch, in two passes over x, and their share of the running ones. The batch
  // is normalised with the biased variance; the running one is unbiased.
  void measure(const T* x) {
    const double n = static_cast<double>(pixels_);
    for_channel_blocks([&](int first, int last) {
      std::vector<double> sum(channels_), squares(channels_);
      for (std::int64_t p = 0; p < pixels_; ++p) {
        for (int c = first; c < last; ++c) sum[c] += x[p * channels_ + c];
      }
      for (int c = first; c < last; ++c) mean_[c] = sum[c] / n;
      for (std::int64_t p = 0; p < pixels_; ++p) {
        for (int c = first; c < last; ++c) {
          const double d = x[p * channels_ + c] - mean_[c];
          squares[c] += d * d;
        }
      }
      for (int c = first; c < last; ++c) {
        inverse_std_[c] = 1 / std::sqrt(squares[c] / n + layer_.epsilon);
        blend(c_.running_mean[c], mean_[c]);
        blend(c_.running_var[c], squares[c] / (n - 1));
      }
    });
  }

  void blend(T& running, double value) const {
    running = static_cast<T>((1 - layer_.momentum) * running + layer_.momentum * value);
  }

  template <class Body>
  void for_channel_blocks(const Body& body) const {
    constexpr int kBlock = 16;
    parallel_for(c_.threads, (channels_ + kBlock - 1) / kBlock, [&](std::int64_t block) {
      const int first = static_cast<int>(block) * kBlock;
      body(first, std::min(first + kBlock, channels_));
    });
  }

  BatchNorm layer_;
  Context<T> c_;
  int channels_;
  std::int64_t pixels_;
  std::vector<double> mean_, inverse_std_;               // of the last forward pass
  std::vector<double> weight_gradient_, bias_gradient_;  // unrounded, for backward_data
};

// y = x * s^-beta with s = k + alpha / size * (sum of x^2 over `size` neighbouring channels).
template <class T>
class ResponseNormalization final : public Op<T> {
 public:
  ResponseNormalization(const LocalResponseNorm& layer, const Context<T>& context)
      : layer_(layer),
        c_(context),
        channels_(context.out.channels),
        pixels_(std::int64_t{context.batch} * context.out.height * context.out.width) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    parallel_for(c_.threads, pixels_, [&](std::int64_t pixel) {
      const T* x = in[0] + pixel * channels_;
      const auto s = scales(x);
      for (int c = 0; c < channels_; ++c) {
        out[pixel * channels_ + c] = static_cast<T>(x[c] * std::pow(s[c], -layer_.beta));
      }
    });
  }

  void backward_data(Inputs<T> in, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    parallel_for(c_.threads, pixels_, [&](std::int64_t pixel) {
      const T* x = in[0] + pixel * channels_;
      const T* dy = dout + pixel * channels_;
      T* dx = din[0] + pixel * channels_;
      const auto s = scales(x);
      std::vector<double> sum(channels_);
      for (int c = 0; c < channels_; ++c) {
        sum[c] += dy[c] * std::pow(s[c], -layer_.beta);
        // d s[c] / d x[j] = 2 alpha / size * x[j] for every j in the window of c.
        const double through_scale = dy[c] * x[c] * -layer_.beta *
                                     std::pow(s[c], -layer_.beta - 1) * 2 * layer_.alpha /
                                     layer_.size;
        for (int j = first(c); j < last(c); ++j) sum[j] += through_scale * x[j];
      }
      for (int c = 0; c < channels_; ++c) dx[c] += static_cast<T>(sum[c]);
    });
  }

 private:
  // Of an even size, the longer half lies before the channel.
  int first(int c) const { return std::max(0, c - layer_.size / 2); }
  int last(int c) const { return std::min(channels_, c + (layer_.size - 1) / 2 + 1); }

  std::vector<double> scales(const T* x) const {
    std::vector<double> s(channels_);
    for (int c = 0; c < channels_; ++c) {
      double squares = 0;
      for (int j = first(c); j < last(c); ++j) squares += static_cast<double>(x[j]) * x[j];
      s[c] = layer_.k + layer_.alpha / layer_.size * squares;
    }
    return s;
  }

  LocalResponseNorm layer_;
  Context<T> c_;
  int channels_;
  std::int64_t pixels_;
};

}  // namespace

template <class T>
std::unique_ptr<Op<T>> make_op(const BatchNorm& layer, const Context<T>& context) {
  return std::make_unique<BatchNormalization<T>>(layer, context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const LocalResponseNorm& layer, const Context<T>& context) {
  return std::make_unique<ResponseNormalization<T>>(layer, context);
}

template std::unique_ptr<Op<float>> make_op(const BatchNorm&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const BatchNorm&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const LocalResponseNorm&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const LocalResponseNorm&, const Context<double>&);

}  // namespace rackmark::worker::reference
