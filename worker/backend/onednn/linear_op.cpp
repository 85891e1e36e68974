#include <stdexcept>

#include "worker/backend/onednn/weighted_layer.hpp"

namespace rackmark::worker::onednn {
namespace {

class LinearOp final : public Op {
 public:
  explicit LinearOp(int node) : node_(node) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    const Shape& in = assembly.node(input_).shape;
    const Desc& src = assembly.values[input_].desc;
    shape_.src = assembly.flat(in.channels);
    if (src != shape_.src && padded_bytes(src) != padded_bytes(shape_.src)) {
      throw std::invalid_argument("onednn: node '" + name_ + "': a linear layer after '" +
                                  assembly.node(input_).name + "' needs a flatten between them");
    }
    shape_.dst = assembly.flat(info.shape.channels);
    if (assembly.is_only_a_loss(node_)) shape_.dst = with_type(shape_.dst, DataType::f32);
    shape_.weights = make_desc({info.shape.channels, in.channels}, Tag::any);
    shape_.has_bias = std::get<Linear>(info.layer).bias;
    if (shape_.has_bias) shape_.bias = make_desc({info.shape.channels}, Tag::a);
    src_slot_ = assembly.use(input_);
    assembly.define(node_, shape_.dst);
    dst_slot_ = assembly.values[node_].slot;
    layer_.plan_weights(assembly, node_, shape_);
    layer_.plan_forward(assembly, shape_);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    assembly.use(input_);
    Value& input = assembly.values[input_];
    if (input.needs_gradient) {
      layer_.plan_data(assembly, shape_);
      src_gradient_slot_ = assembly.add_gradient(shape_.src);
      input.gradients.push_back(src_gradient_slot_);
    }
    return layer_.parameters();
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    layer_.bind(where, {.src = where.at(src_slot_),
                        .dst = where.at(dst_slot_),
                        .gradient = where.at(gradient_slot_),
                        .src_in_backward = where.at(src_slot_),
                        .src_gradient = where.at(src_gradient_slot_)});
  }

  void forward(Pass& pass) override { layer_.forward(pass); }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    layer_.backward(pass);
  }

 private:
  int node_, input_ = -1;
  std::string name_;
  LinearShape shape_;
  WeightedLayer<LinearShape> layer_{&make_linear_forward, &make_linear_data, &make_linear_weights};
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1, src_gradient_slot_ = -1;
  GradientSum sum_;
};

}  // namespace

std::unique_ptr<Op> make_linear_op(int node) { return std::make_unique<LinearOp>(node); }

}  // namespace rackmark::worker::onednn
