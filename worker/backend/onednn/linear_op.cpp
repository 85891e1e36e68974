#include <stdexcept>

#include "worker/backend/onednn/weight_reader.hpp"

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
    shape_.src = make_desc({assembly.batch, in.channels}, Tag::nc);
    if (src != shape_.src && padded_bytes(src) != padded_bytes(shape_.src)) {
      throw std::invalid_argument("onednn: node '" + name_ + "': a linear layer after '" +
                                  assembly.node(input_).name + "' needs a flatten between them");
    }
    shape_.dst = make_desc({assembly.batch, info.shape.channels}, Tag::nc);
    shape_.weights = make_desc({info.shape.channels, in.channels}, Tag::any);
    shape_.has_bias = std::get<Linear>(info.layer).bias;
    src_slot_ = assembly.use(input_);
    assembly.define(node_, shape_.dst);
    dst_slot_ = assembly.values[node_].slot;

    weight_ = assembly.parameter(node_, "weight");
    if (shape_.has_bias) {
      bias_ = assembly.parameter(node_, "bias");
      shape_.bias = make_desc({info.shape.channels}, Tag::a);
      assembly.parameter_layouts[bias_] = shape_.bias;
    }
    weights_.made = make_linear_weights(assembly.engine, shape_);
    assembly.need_scratch(weights_.made);
    assembly.parameter_layouts[weight_] = weights_.made.weights;
    plan_reader(assembly, forward_, &make_linear_forward);
    flop_ = 2.0 * assembly.batch * in.channels * info.shape.channels;
    bytes_ = static_cast<double>(padded_bytes(weights_.made.weights));
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    assembly.use(input_);
    Value& input = assembly.values[input_];
    if (input.needs_gradient) {
      plan_reader(assembly, data_, &make_linear_data);
      src_gradient_slot_ = assembly.add_buffer(padded_bytes(shape_.src));
      input.gradients.push_back(src_gradient_slot_);
    }
    return shape_.has_bias ? std::vector<int>{weight_, bias_} : std::vector<int>{weight_};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    const auto src = where.memory(shape_.src, where.at(src_slot_));
    const auto gradient = where.memory(shape_.dst, where.at(gradient_slot_));
    std::unordered_map<int, dnnl::memory> forward{
        {DNNL_ARG_SRC, src}, {DNNL_ARG_DST, where.memory(shape_.dst, where.at(dst_slot_))}};
    std::unordered_map<int, dnnl::memory> weights{
        {DNNL_ARG_SRC, src},
        {DNNL_ARG_DIFF_DST, gradient},
        {DNNL_ARG_DIFF_WEIGHTS, where.memory(weights_.made.weights, where.gradients[weight_])}};
    if (shape_.has_bias) {
      forward.insert({DNNL_ARG_BIAS, where.memory(shape_.bias, where.parameters[bias_])});
      weights.insert({DNNL_ARG_DIFF_BIAS, where.memory(shape_.bias, where.gradients[bias_])});
    }
    forward_.bind(where, where.parameters[weight_], std::move(forward));
    weights_.bind(where, std::move(weights));
    if (src_gradient_slot_ < 0) return;
    data_.bind(where, where.parameters[weight_],
               {{DNNL_ARG_DIFF_DST, gradient},
                {DNNL_ARG_DIFF_SRC, where.memory(shape_.src, where.at(src_gradient_slot_))}});
  }

  void forward(Pass& pass) override { forward_.run(pass, name_, "forward", flop_, bytes_); }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    pass.run(name_, "backward_weights", weights_.made.implementation, flop_, bytes_,
             [&] { weights_(pass); });
    pass.ready(weight_);
    if (shape_.has_bias) pass.ready(bias_);
    if (src_gradient_slot_ >= 0) data_.run(pass, name_, "backward_data", flop_, bytes_);
  }

 private:
  void plan_reader(Assembly& assembly, WeightReader& reader,
                   Made (*make)(const dnnl::engine&, const LinearShape&)) {
    LinearShape shape = shape_;
    reader.plan(assembly, assembly.parameter_layouts[weight_], shape_.weights,
                [&](const Desc& weights) {
                  shape.weights = weights;
                  return make(assembly.engine, shape);
                });
  }

  int node_, input_ = -1, weight_ = -1, bias_ = -1;
  std::string name_;
  LinearShape shape_;
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1, src_gradient_slot_ = -1;
  WeightReader forward_, data_;
  Call weights_;
  GradientSum sum_;
  double flop_ = 0, bytes_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_linear_op(int node) { return std::make_unique<LinearOp>(node); }

}  // namespace rackmark::worker::onednn
