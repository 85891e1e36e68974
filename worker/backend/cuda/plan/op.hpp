// An operation of a compiled plan: planned (buffers and their lifetimes), prepared (engines of the
// libraries), bound (addresses), then run any number of times.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/plan/assembly.hpp"
#include "worker/backend/graph.hpp"

namespace rackmark::worker::cuda {

// Where everything lies in the device's memory.
struct Binding {
  const ArenaPlan& arena;
  std::byte* arena_base;
  void* scratch;
  std::vector<float*> parameters, gradients;  // by parameter index
  std::vector<void*> narrow;                  // parameters in the stored type; the same in float
  std::vector<float*> running;                // by statistic index
  StepState* state;
  const std::int32_t* labels;
  float* row_losses;                       // batch a head
  const float* images = nullptr;           // the batch as floats,
  const std::uint8_t* pixels = nullptr;    // or as bytes
  const PictureWindow* windows = nullptr;  // with these

  void* address(int slot) const { return slot < 0 ? nullptr : arena_base + arena.offset(slot); }
  float* floats(int slot) const { return static_cast<float*>(address(slot)); }
  std::uint8_t* mask(int slot) const { return static_cast<std::uint8_t*>(address(slot)); }
  Matrix matrix(const Place& place) const;
};

// Scale and shift of a batch norm in the stored type, where a convolution norms what it reads.
struct NarrowNorm {
  void *scale = nullptr, *shift = nullptr;
};
NarrowNorm narrow_norm(const Binding& where, const NormInConvolution& norm);

// Times of operations, one after the other. Before each the queue is given some 50 us of other
// work, so that the host has given the operation before its turn comes: what that takes the host is
// then not in its time. That work copies little memory: an operation finds the caches as the one
// before has left them.
class Stopwatch {
 public:
  explicit Stopwatch(Device& device);
  void time(OpTime row, const std::function<void()>& work);  // adds the row, with its ms
  std::vector<OpTime> take() { return std::move(rows_); }

 private:
  void occupy_queue();

  Device& device_;
  std::shared_ptr<std::byte> from_, to_;
  std::unique_ptr<Mark> begin_, end_;
  std::vector<OpTime> rows_;
};

// RACKMARK_CUDA_STEP_BY_STEP is set, to find the operation that fails on a device: nothing is
// recorded, each operation is waited for, and what it throws begins with its name.
bool step_by_step();
// The device's recording; step by step, work that is given anew each time.
std::unique_ptr<Recording> record(Device& device, const std::function<void()>& work);

// One run through the operations.
struct Pass {
  Device& device;
  const Kernels& kernels;  // of the stored type
  const Kernels& floats;   // of float32
  Queue queue;
  void* workspace = nullptr;
  bool training = true;
  std::function<void(int parameter)> ready;
  Stopwatch* stopwatch = nullptr;  // of a profile

  const Kernels& of(Type type) const { return device.kernels(type); }

  // Runs and, in a profile, times `work`.
  void run(const std::string& node, const char* pass, const std::string& implementation,
           double flop, double bytes, const std::function<void()>& work);
  // An own kernel, named after its arguments' kind.
  template <class Arguments>
  void run(const std::string& node, const char* pass, const char* implementation,
           Kernel<Arguments> kernel, double bytes, const Arguments& arguments) {
    run(node, pass, implementation, 0, bytes, [&] { kernel(queue, arguments); });
  }
};

// Engines of the libraries by task: equal shapes share one.
class Engines {
 public:
  explicit Engines(Device& device) : device_(device) {}
  std::shared_ptr<Convolution> find(const ConvolutionTask& task);
  std::shared_ptr<Convolution> find_if_served(const ConvolutionTask& task);  // null: it is not
  std::shared_ptr<Product> find(const ProductTask& task);
  Device& device() { return device_; }
  std::int64_t workspace_bytes() const { return workspace_bytes_; }  // of the hungriest one

 private:
  Device& device_;
  std::int64_t workspace_bytes_ = 0;
  std::map<ConvolutionTask, std::shared_ptr<Convolution>> convolutions_;
  std::map<ProductTask, std::shared_ptr<Product>> products_;
  std::set<ConvolutionTask> not_served_;
};

class Op {
 public:
  virtual ~Op() = default;
  // Defines the output value. Values of the inputs are defined.
  virtual void plan_forward(Assembly& assembly) = 0;
  // Takes the gradient of the output value and adds to those of the inputs that need one. Called in
  // reverse order. Returns the parameters whose gradients are final after it, in that order.
  virtual std::vector<int> plan_backward(Assembly& assembly) = 0;
  virtual void prepare(Engines& /*engines*/) {}
  virtual void bind(const Binding& where) = 0;
  virtual void forward(Pass& pass) = 0;
  virtual void backward(Pass& pass) = 0;
  virtual int output() const = 0;  // node id
};

// Node 0. `raw_side` not 0: of pictures of so many pixels as bytes.
std::unique_ptr<Op> make_input_op(bool pad_channels, int raw_side = 0);
// With `relu`, a Relu node that alone reads the layer: the operation's output is that node's. With
// `statistics`, the sums that a batch norm after it needs (Value::sums), where that is faster; so
// with the work of the batch norm before it (Value::norm).
std::unique_ptr<Op> make_convolution_op(int node, int relu, bool statistics);
std::unique_ptr<Op> make_linear_op(int node, int relu);
// `shared`: what the one convolution that reads it may do of its work; may be null.
std::unique_ptr<Op> make_norm_op(const NormGroup& group,
                                 std::shared_ptr<NormInConvolution> shared = nullptr);
// A batch norm whose ReLU is read by this max pool alone.
std::unique_ptr<Op> make_norm_pool_op(int norm, int pool);
std::unique_ptr<Op> make_relu_op(int node);
std::unique_ptr<Op> make_add_op(int node, bool negate_residual_gradient);
std::unique_ptr<Op> make_concat_op(int node);
std::unique_ptr<Op> make_flatten_op(int node);
std::unique_ptr<Op> make_dropout_op(int node, bool active, std::int64_t seed);
std::unique_ptr<Op> make_response_norm_op(int node);
std::unique_ptr<Op> make_max_pool_op(int node);
std::unique_ptr<Op> make_average_pool_op(int node);  // adaptive ones as well
std::unique_ptr<Op> make_loss_op(int head);          // index of Net::heads()

}  // namespace rackmark::worker::cuda
