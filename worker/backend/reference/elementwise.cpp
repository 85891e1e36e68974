// Layers without arithmetic worth speaking of.
#include <algorithm>

#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {
namespace {

template <class T>
class Rectifier final : public Op<T> {
 public:
  explicit Rectifier(const Context<T>& context) : size_(context.batch * context.out.elements()) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    // Written so that NaN stays NaN: a broken run must not look well.
    for (std::int64_t i = 0; i < size_; ++i) out[i] = in[0][i] < 0 ? T{0} : in[0][i];
  }
  void backward_data(Inputs<T>, const T* out, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    for (std::int64_t i = 0; i < size_; ++i) din[0][i] += out[i] > 0 ? dout[i] : T{0};
  }

 private:
  std::int64_t size_;
};

template <class T>
class Sum final : public Op<T> {
 public:
  explicit Sum(const Context<T>& context)
      : size_(context.batch * context.out.elements()),
        residual_sign_(context.negate_residual_gradient ? T{-1} : T{1}) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    for (std::int64_t i = 0; i < size_; ++i) out[i] = in[0][i] + in[1][i];
  }
  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    for (std::int64_t i = 0; i < size_; ++i) {
      if (din[0] != nullptr) din[0][i] += dout[i];
      if (din[1] != nullptr) din[1][i] += residual_sign_ * dout[i];
    }
  }

 private:
  std::int64_t size_;
  T residual_sign_;
};

template <class T>
class Concatenation final : public Op<T> {
 public:
  explicit Concatenation(const Context<T>& context)
      : c_(context),
        pixels_(std::int64_t{context.batch} * context.out.height * context.out.width) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    std::int64_t first = 0;
    for (std::size_t part = 0; part < c_.in.size(); ++part) {
      const std::int64_t width = c_.in[part].channels;
      for (std::int64_t p = 0; p < pixels_; ++p) {
        std::copy_n(in[part] + p * width, width, out + p * c_.out.channels + first);
      }
      first += width;
    }
  }
  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    std::int64_t first = 0;
    for (std::size_t part = 0; part < c_.in.size(); ++part) {
      const std::int64_t width = c_.in[part].channels;
      for (std::int64_t p = 0; p < pixels_ && din[part] != nullptr; ++p) {
        for (std::int64_t c = 0; c < width; ++c) {
          din[part][p * width + c] += dout[p * c_.out.channels + first + c];
        }
      }
      first += width;
    }
  }

 private:
  Context<T> c_;
  std::int64_t pixels_;
};

// Keeps an element with probability 1 - p, scaled by 1 / (1 - p). The mask is a pure function of
// seed, pass and position.
template <class T>
class DroppingOut final : public Op<T> {
 public:
  DroppingOut(const Dropout& layer, const Context<T>& context)
      : probability_(layer.probability),
        masks_(context.masks),
        factor_(static_cast<std::size_t>(context.batch * context.out.elements()), T{1}) {}

  void forward(Inputs<T> in, T* out, Pass pass) override {
    if (pass == Pass::kEvaluation || probability_ == 0) {
      std::copy_n(in[0], factor_.size(), out);
      return;
    }
    const auto key = splitmix64(static_cast<std::uint64_t>(masks_.seed) +
                                static_cast<std::uint64_t>(masks_.number(passes_++)));
    for (std::size_t i = 0; i < factor_.size(); ++i) {
      const bool keep = draw(key, i) >= probability_;
      factor_[i] = keep ? static_cast<T>(1 / (1 - probability_)) : T{0};
      out[i] = in[0][i] * factor_[i];
    }
  }
  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    for (std::size_t i = 0; i < factor_.size(); ++i) din[0][i] += dout[i] * factor_[i];
  }

 private:
  static double draw(std::uint64_t key, std::uint64_t element) {  // in [0, 1)
    return static_cast<double>(splitmix64(key + element) >> 11) / 9007199254740992.0;
  }

  double probability_;
  DropoutMasks masks_;
  std::int64_t passes_ = 0;  // in training
  std::vector<T> factor_;    // of the last training pass
};

// To the order (channels, height, width), in which linear layers expect their input.
template <class T>
class Flattening final : public Op<T> {
 public:
  explicit Flattening(const Context<T>& context) : batch_(context.batch), in_(context.in.front()) {}

  void forward(Inputs<T> in, T* out, Pass) override {
    visit([&](std::int64_t from, std::int64_t to) { out[to] = in[0][from]; });
  }
  void backward_data(Inputs<T>, const T*, const T* dout, std::span<T* const> din) override {
    if (din[0] == nullptr) return;
    visit([&](std::int64_t from, std::int64_t to) { din[0][from] += dout[to]; });
  }

 private:
  template <class Body>
  void visit(const Body& body) const {
    const std::int64_t pixels = std::int64_t{in_.height} * in_.width;
    for (std::int64_t image = 0; image < batch_; ++image) {
      for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::int64_t c = 0; c < in_.channels; ++c) {
          body((image * pixels + p) * in_.channels + c, (image * in_.channels + c) * pixels + p);
        }
      }
    }
  }

  std::int64_t batch_;
  Shape in_;
};

}  // namespace

template <class T>
std::unique_ptr<Op<T>> make_op(const Relu&, const Context<T>& context) {
  return std::make_unique<Rectifier<T>>(context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const Add&, const Context<T>& context) {
  return std::make_unique<Sum<T>>(context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const Concat&, const Context<T>& context) {
  return std::make_unique<Concatenation<T>>(context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const Dropout& layer, const Context<T>& context) {
  return std::make_unique<DroppingOut<T>>(layer, context);
}
template <class T>
std::unique_ptr<Op<T>> make_op(const Flatten&, const Context<T>& context) {
  return std::make_unique<Flattening<T>>(context);
}

template std::unique_ptr<Op<float>> make_op(const Relu&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Relu&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const Add&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Add&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const Concat&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Concat&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const Dropout&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Dropout&, const Context<double>&);
template std::unique_ptr<Op<float>> make_op(const Flatten&, const Context<float>&);
template std::unique_ptr<Op<double>> make_op(const Flatten&, const Context<double>&);

}  // namespace rackmark::worker::reference
