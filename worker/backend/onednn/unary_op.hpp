// What operations with one input, one output and no parameters have in common: their buffers.
#pragma once

#include <stdexcept>
#include <string>

#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {

// The output has the layout of a picture, or that of the input if the input is flat. Backward
// writes the gradient of the input into a buffer of its own.
class UnaryOp : public Op {
 public:
  explicit UnaryOp(int node) : node_(node) {}
  int output() const final { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    in_ = assembly.node(input_).shape;
    out_ = info.shape;
    batch_ = assembly.batch;
    block_ = assembly.block;
    src_slot_ = assembly.use(input_);
    const Value& input = assembly.values[input_];
    assembly.define(node_, in_ == out_ ? input.desc : assembly.picture(out_));
    dst_slot_ = assembly.values[node_].slot;
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    Value& input = assembly.values[input_];
    if (!input.needs_gradient) return {};
    if (reads_input_in_backward()) assembly.use(input_);
    src_gradient_slot_ = assembly.add_gradient(input.desc);
    input.gradients.push_back(src_gradient_slot_);
    return {};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    x_ = where.at(src_slot_);
    y_ = where.at(dst_slot_);
    dy_ = where.at(gradient_slot_);
    dx_ = where.at(src_gradient_slot_);
  }

  void forward(Pass& pass) final {
    pass.run(name_, "forward", implementation(pass), 0, bytes(), [&] { compute(pass); });
  }

  void backward(Pass& pass) final {
    if (dx_ == nullptr) return;
    sum_.run(pass, name_);
    pass.run(name_, "backward_data", implementation(pass), 0, bytes(), [&] { propagate(pass); });
  }

 protected:
  virtual bool reads_input_in_backward() const { return false; }
  virtual std::string implementation(const Pass& pass) const = 0;
  virtual void compute(Pass& pass) = 0;    // y from x
  virtual void propagate(Pass& pass) = 0;  // dx from dy

  // For operations that know no flat input.
  void want_picture(const Assembly& assembly) const {
    if (assembly.values[input_].desc == assembly.picture(in_)) return;
    throw std::invalid_argument("onednn: node '" + name_ + "' after a flat layer is not supported");
  }

  std::int64_t blocks() const { return (out_.channels + block_ - 1) / block_; }
  double bytes() const {
    return static_cast<double>(x_.width()) * batch_ *
           static_cast<double>(in_.elements() + out_.elements());
  }

  int node_, input_ = -1;
  std::string name_;
  Shape in_, out_;
  int batch_ = 0, block_ = 16;
  Cells x_, y_, dy_, dx_;

 private:
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1, src_gradient_slot_ = -1;
  GradientSum sum_;
};

}  // namespace rackmark::worker::onednn
