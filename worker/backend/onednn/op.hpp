// An operation of a compiled plan, and the state that operations share while the plan is made
// (Assembly), placed in memory (Binding) and run (Pass).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "worker/backend/arena_plan.hpp"
#include "worker/backend/backend.hpp"
#include "worker/backend/graph.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/kernels/kernels.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::onednn {

struct Pass;

// Makes a value once more in backward, into another buffer, so that it need not be kept.
class Recipe {
 public:
  virtual ~Recipe() = default;
  virtual void make_again(Pass& pass, Cells into) = 0;
};

// What a node computes for the whole batch. Pictures are blocked by channel (nChw16c or nChw8c),
// with zeros in the channels that fill the last block, except the net's input (nchw); outputs of
// flatten and linear are plain (N, n). Values and their gradients are of type Assembly::stored,
// except logits that only a loss reads: they are float32, their gradient is not.
struct Value {
  Desc desc;
  int slot = -1;                // -1: not computed (merged into another operation)
  bool needs_gradient = false;  // some parameter lies before it
  // Buffers whose sum is the gradient of this value, in the order in which backward makes them.
  // Each belongs to this value alone: whoever takes them may write into them.
  std::vector<int> gradients;
  // A value that is written straight into the concat that alone reads it: `slot`, and the only
  // buffer in `gradients`, are then the concat's, and these two say where this value lies in them.
  // Image stride 0: the value has buffers of its own.
  std::int64_t offset = 0, image_stride = 0;  // in values
  bool is_view() const { return image_stride != 0; }
  // Not null: whoever reads this value in backward makes it again. Its buffer is used by then.
  Recipe* recipe = nullptr;
};

// A concat that may take a value in place, and the value's first channel in it.
struct Placement {
  int concat = -1;  // node; -1: none
  int first_channel = 0;
};

// Planning state. `event` is the time at which the operation being planned runs.
struct Assembly {
  Assembly(const Net& the_net, int the_batch) : net(the_net), batch(the_batch) {}
  const Net& net;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  int batch;
  int block = 16;
  DataType stored = DataType::f32;  // f32 or bf16: how values and their gradients are kept
  bool winograd = false;            // wanted, and the host has it
  bool recompute = false;           // make large values again in backward instead of keeping them
  int event = 0;
  std::vector<Value> values;          // by node id
  std::vector<Placement> placements;  // by node id
  ArenaPlan arena;
  std::int64_t scratch_bytes = 0;
  std::vector<Desc> parameter_layouts;  // by parameter index; float32
  std::vector<std::string> widened;  // nodes that compute in float32 though oneDNN has bf16 kernels

  const NodeInfo& node(int id) const { return net.nodes()[id]; }
  int parameter(int node, const char* leaf) const;  // index of "<node name>.<leaf>"
  int statistic(int node, const char* leaf) const;  // index of "<node name>.running_<...>"
  Desc picture(const Shape& shape) const;           // blocked by channel
  Desc flat(std::int64_t values) const;             // (N, values)
  std::int64_t block_count(const Shape& s) const { return (s.channels + block - 1) / block; }
  std::int64_t width() const { return stored == DataType::bf16 ? 2 : 4; }  // bytes of a value
  bool is_only_a_loss(int id) const;  // nothing but a loss reads the node's value

  int add_buffer(std::int64_t bytes) { return arena.add(bytes, event); }
  int add_gradient(const Desc& value) { return add_buffer(padded_values(value) * width()); }
  void define(int id, const Desc& desc);  // gives the value its buffer
  void define_in_place(int id);           // the same inside the concat that placements[id] names
  int use(int id);                        // marks the value's buffer as read now; returns it
  void need_scratch(std::int64_t bytes);
};

// Where everything lies.
struct Binding {
  const ArenaPlan& arena;
  const dnnl::engine& engine;
  std::byte* arena_base;
  std::byte* scratch;
  std::vector<float*> parameters, gradients;  // by parameter index
  std::vector<float>* running;                // by statistic index
  Storage storage;

  std::byte* address(int slot) const {
    return slot < 0 ? nullptr : arena_base + arena.offset(slot);
  }
  Cells at(int slot) const { return {address(slot), storage}; }
  float* floats(int slot) const { return reinterpret_cast<float*>(address(slot)); }
  dnnl::memory memory(const Desc& desc, void* where) const {
    return dnnl::memory(desc, engine, where);
  }
};

// One run through the operations.
struct Pass {
  dnnl::stream& stream;
  const Kernels& kernels;  // of the plan's storage
  bool training = true;
  std::span<const std::int32_t> labels;
  double loss = 0;
  std::function<void(int parameter)> ready;
  std::vector<OpTime>* times = nullptr;  // null: not timed

  // Runs and, in a profile, times `work`.
  void run(const std::string& node, const char* pass, const std::string& implementation,
           double flop, double bytes, const std::function<void()>& work);
};

// What a primitive reads or writes under an argument's number, and how the plan stores it.
struct StoredOperand {
  int argument = 0;
  Desc made, stored;
};

// A primitive with its arguments. Where it wants float32 and the plan stores bf16, what it reads is
// widened into scratch memory before it, and what it writes rounded after it.
class Call {
 public:
  void plan(Assembly& assembly, Made made, const std::vector<StoredOperand>& operands = {});
  void bind(const Binding& where, std::unordered_map<int, dnnl::memory> with);  // as stored
  void operator()(Pass& pass);
  const Made& made() const { return made_; }

 private:
  struct Passage {
    int argument = 0;
    Desc desc;
    std::int64_t values = 0, offset = 0;  // bytes into the scratch memory
    void* stored = nullptr;
    float* wide = nullptr;
  };

  Made made_;
  std::unordered_map<int, dnnl::memory> arguments_;
  std::vector<Passage> passages_;
};

// make(type) with bf16 where the plan stores it and oneDNN has a kernel for it, else with float32.
template <class Make>
Made make_in_stored_type(Assembly& assembly, const std::string& node, const Make& make) {
  if (assembly.stored == DataType::bf16 && has_bf16()) {
    try {
      Made made = make(DataType::bf16);
      if (!is_reference(made)) return made;
    } catch (const DnnlError& error) {
      if (!error.unimplemented) throw;
    }
    assembly.widened.push_back(node);
  }
  return make(DataType::f32);
}

class Op {
 public:
  virtual ~Op() = default;
  // Defines the output value. Values of the inputs are defined.
  virtual void plan_forward(Assembly& assembly) = 0;
  // Takes the gradients of the output value and adds to those of the inputs that need one. Called
  // in reverse order. Returns the parameters whose gradients are final after it, in that order.
  virtual std::vector<int> plan_backward(Assembly& assembly) = 0;
  virtual void bind(const Binding& where) = 0;
  virtual void forward(Pass& pass) = 0;
  virtual void backward(Pass& pass) = 0;
  virtual int output() const = 0;  // node id
};

// Sums a value's gradient buffers into the first one, until at most `most` are left.
class GradientSum {
 public:
  // Returns the buffers left. Throws std::invalid_argument when there is none: the node does not
  // reach a loss.
  std::vector<int> plan(Assembly& assembly, int node, int most = 1);
  void bind(const Binding& where);
  void run(Pass& pass, const std::string& node);

 private:
  std::vector<int> slots_;
  std::vector<Cells> buffers_;  // [0] takes the others
  std::int64_t count_ = 0;
};

std::unique_ptr<Op> make_convolution_op(int node);
std::unique_ptr<Op> make_linear_op(int node);
std::unique_ptr<Op> make_max_pool_op(int node);
std::unique_ptr<Op> make_average_pool_op(int node);
std::unique_ptr<Op> make_relu_op(int node, bool in_place);
std::unique_ptr<Op> make_add_op(int node, bool negate_residual_gradient);
std::unique_ptr<Op> make_flatten_op(int node);
std::unique_ptr<Op> make_concat_op(int node);
std::unique_ptr<Op> make_adaptive_pool_op(int node);
std::unique_ptr<Op> make_response_norm_op(int node);
std::unique_ptr<Op> make_dropout_op(int node, bool active, const DropoutMasks& masks);
std::unique_ptr<Op> make_loss_op(int node, double weight, LossKind kind);

// Batch norm of `norm`, with what follows it in one pass: see graph.hpp.
std::unique_ptr<Op> make_norm_op(const NormGroup& group);

}  // namespace rackmark::worker::onednn
