// One class a layer: forward and backward as plain loops. T is float or double; sums are always
// double, so that a float result is rounded about once.
//
// Activations are (batch, height, width, channels), so that the innermost loop runs over
// contiguous channels. Parameters are stored in the order of those loops: convolution weights
// (kernel_h, kernel_w, in, out), linear weights (in, out).
#pragma once

#include <omp.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::reference {

enum class Pass { kTraining, kEvaluation };

// What a layer works on. Pointers are null where a layer has no such thing; they stay valid as long
// as the op lives.
template <class T>
struct Context {
  std::vector<Shape> in;
  Shape out;
  int batch = 1, threads = 1;
  const T *weight = nullptr, *bias = nullptr;
  T *weight_gradient = nullptr, *bias_gradient = nullptr;
  T *running_mean = nullptr, *running_var = nullptr;
  bool negate_residual_gradient = false;  // the deliberate fault of backend.hpp
  DropoutMasks masks;                     // with a seed of the node's own
};

template <class T>
using Inputs = std::span<const T* const>;

template <class T>
class Op {
 public:
  virtual ~Op() = default;

  virtual void forward(Inputs<T> in, T* out, Pass pass) = 0;

  // Both refer to the last forward pass in training mode, and are called in this order.
  // Overwrites the gradients of the parameters.
  virtual void backward_weights(Inputs<T> in, const T* dout) {
    static_cast<void>(in);
    static_cast<void>(dout);
  }
  // Adds to every din that is not null.
  virtual void backward_data(Inputs<T> in, const T* out, const T* dout,
                             std::span<T* const> din) = 0;
};

template <class T>
std::unique_ptr<Op<T>> make_op(const Conv2d& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const Linear& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const BatchNorm& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const LocalResponseNorm& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const MaxPool& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const AveragePool& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const AdaptiveAveragePool& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const Relu& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const Add& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const Concat& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const Dropout& layer, const Context<T>& context);
template <class T>
std::unique_ptr<Op<T>> make_op(const Flatten& layer, const Context<T>& context);

// body(i) for every i in [0, count), on `threads` threads. Bodies write to different places, so
// that results do not depend on the number of threads.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace rackmark::worker::reference
