// ReLU and Add where they could not be merged into a batch norm, and Flatten.
#include <cstring>

#include "worker/backend/onednn/op.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

class ReluOp final : public Op {
 public:
  ReluOp(int node, bool in_place) : node_(node), in_place_(in_place) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    src_slot_ = assembly.use(input_);
    Value& out = assembly.values[node_];
    if (in_place_) {
      out.desc = assembly.values[input_].desc;
      out.slot = src_slot_;
    } else {
      assembly.define(node_, assembly.values[input_].desc);
    }
    dst_slot_ = out.slot;
    count_ = padded_values(assembly.values[node_].desc);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    assembly.use(node_);
    Value& input = assembly.values[input_];
    if (input.needs_gradient) input.gradients.push_back(gradient_slot_);
    return {};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    x_ = where.at(src_slot_);
    y_ = where.at(dst_slot_);
    gradient_ = where.at(gradient_slot_);
  }

  void forward(Pass& pass) override {
    pass.run(name_, "forward", pass.kernels.isa, 0, static_cast<double>(2 * y_.width() * count_),
             [&] {
               parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
                 pass.kernels.relu(x_ + first, y_ + first, last - first);
               });
             });
  }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    pass.run(name_, "backward_data", pass.kernels.isa, 0,
             static_cast<double>(3 * y_.width() * count_), [&] {
               parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
                 pass.kernels.relu_gradient(y_ + first, gradient_ + first, last - first);
               });
             });
  }

 private:
  int node_, input_ = -1;
  bool in_place_;
  std::string name_;
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1;
  std::int64_t count_ = 0;
  Cells x_, y_, gradient_;
  GradientSum sum_;
};

class AddOp final : public Op {
 public:
  AddOp(int node, bool negate_residual) : node_(node), negate_residual_(negate_residual) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    inputs_ = info.inputs;
    for (const int input : inputs_) src_slots_.push_back(assembly.use(input));
    assembly.define(node_, assembly.values[inputs_[0]].desc);
    dst_slot_ = assembly.values[node_].slot;
    count_ = padded_values(assembly.values[node_].desc);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    Value &main = assembly.values[inputs_[0]], &residual = assembly.values[inputs_[1]];
    if (main.needs_gradient) main.gradients.push_back(gradient_slot_);
    if (residual.needs_gradient) {  // a buffer of its own: readers write into what they take
      residual_slot_ = assembly.add_gradient(assembly.values[node_].desc);
      residual.gradients.push_back(residual_slot_);
    }
    return {};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    a_ = where.at(src_slots_[0]);
    b_ = where.at(src_slots_[1]);
    y_ = where.at(dst_slot_);
    gradient_ = where.at(gradient_slot_);
    residual_gradient_ = where.at(residual_slot_);
  }

  void forward(Pass& pass) override {
    pass.run(name_, "forward", pass.kernels.isa, 0, static_cast<double>(3 * y_.width() * count_),
             [&] {
               parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
                 pass.kernels.sum(a_ + first, b_ + first, y_ + first, last - first);
               });
             });
  }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    if (residual_gradient_ == nullptr) return;
    const float factor = negate_residual_ ? -1.0F : 1.0F;
    pass.run(name_, "backward_data", pass.kernels.isa, 0,
             static_cast<double>(2 * y_.width() * count_), [&] {
               parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
                 pass.kernels.scale(gradient_ + first, factor, residual_gradient_ + first,
                                    last - first);
               });
             });
  }

 private:
  int node_;
  bool negate_residual_;
  std::string name_;
  std::vector<int> inputs_, src_slots_;
  int dst_slot_ = -1, gradient_slot_ = -1, residual_slot_ = -1;
  std::int64_t count_ = 0;
  Cells a_, b_, y_, gradient_, residual_gradient_;
  GradientSum sum_;
};

// From blocked by channel to plain (N, C*H*W), and back for the gradient. Nothing to do where both
// are the same bytes: 1x1 pictures with full blocks, or an input that is plain already.
class FlattenOp final : public Op {
 public:
  explicit FlattenOp(int node) : node_(node) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    const Shape& in = assembly.node(input_).shape;
    blocked_ = assembly.values[input_].desc;
    const Desc flat = assembly.flat(info.shape.channels);
    const bool pixel = in.height == 1 && in.width == 1;
    same_ = blocked_ == flat || (pixel && padded_bytes(blocked_) == padded_bytes(flat));
    src_slot_ = assembly.use(input_);
    if (same_) {
      assembly.values[node_].desc = flat;
      assembly.values[node_].slot = src_slot_;
      return;
    }
    plain_ =
        make_desc({assembly.batch, in.channels, in.height, in.width}, assembly.stored, Tag::nchw);
    assembly.define(node_, flat);
    dst_slot_ = assembly.values[node_].slot;
    plan_copy(assembly, forward_, blocked_, plain_);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    Value& input = assembly.values[input_];
    if (!input.needs_gradient) return {};
    if (same_) {
      input.gradients.push_back(gradient_slot_);
      return {};
    }
    plan_copy(assembly, backward_, plain_, blocked_);
    src_gradient_slot_ = assembly.add_gradient(blocked_);
    input.gradients.push_back(src_gradient_slot_);
    return {};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    if (same_) return;
    forward_.bind(where, {{DNNL_ARG_FROM, where.memory(blocked_, where.at(src_slot_))},
                          {DNNL_ARG_TO, where.memory(plain_, where.at(dst_slot_))}});
    if (src_gradient_slot_ < 0) return;
    backward_.bind(where, {{DNNL_ARG_FROM, where.memory(plain_, where.at(gradient_slot_))},
                           {DNNL_ARG_TO, where.memory(blocked_, where.at(src_gradient_slot_))}});
  }

  void forward(Pass& pass) override {
    if (same_) return;
    pass.run(name_, "forward", forward_.made().implementation, 0,
             2.0 * static_cast<double>(padded_bytes(plain_)), [&] { forward_(pass); });
  }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    if (src_gradient_slot_ < 0) return;
    pass.run(name_, "backward_data", backward_.made().implementation, 0,
             2.0 * static_cast<double>(padded_bytes(plain_)), [&] { backward_(pass); });
  }

 private:
  void plan_copy(Assembly& assembly, Call& call, const Desc& from, const Desc& to) {
    Made made = make_in_stored_type(assembly, name_, [&](DataType type) {
      return make_reorder(assembly.engine, with_type(from, type), with_type(to, type));
    });
    const std::vector<StoredOperand> operands{{DNNL_ARG_FROM, made.src, from},
                                              {DNNL_ARG_TO, made.dst, to}};
    call.plan(assembly, std::move(made), operands);
  }

  int node_, input_ = -1;
  bool same_ = false;
  std::string name_;
  Desc blocked_, plain_;
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1, src_gradient_slot_ = -1;
  Call forward_, backward_;
  GradientSum sum_;
};

}  // namespace

std::unique_ptr<Op> make_relu_op(int node, bool in_place) {
  return std::make_unique<ReluOp>(node, in_place);
}
std::unique_ptr<Op> make_add_op(int node, bool negate_residual_gradient) {
  return std::make_unique<AddOp>(node, negate_residual_gradient);
}
std::unique_ptr<Op> make_flatten_op(int node) { return std::make_unique<FlattenOp>(node); }

}  // namespace rackmark::worker::onednn
