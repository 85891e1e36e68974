#include "worker/backend/onednn/weight_reader.hpp"

namespace rackmark::worker::onednn {
namespace {

class ConvolutionOp final : public Op {
 public:
  explicit ConvolutionOp(int node) : node_(node) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    const auto& layer = std::get<Conv2d>(info.layer);
    name_ = info.name;
    input_ = info.inputs[0];
    has_bias_ = layer.bias;
    weight_ = assembly.parameter(node_, "weight");
    src_slot_ = assembly.use(input_);
    assembly.define(node_, assembly.picture(info.shape));
    dst_slot_ = assembly.values[node_].slot;
    shape_ = shape_of(assembly, layer);
    forward_shape_ = shape_;
    if (runs_in_reference_code(assembly)) pad_source(assembly);

    weights_.made = choose(assembly, &make_convolution_weights);
    assembly.need_scratch(weights_.made);
    assembly.parameter_layouts[weight_] = weights_.made.weights;
    if (has_bias_) {
      bias_ = assembly.parameter(node_, "bias");
      assembly.parameter_layouts[bias_] = shape_.bias;
    }
    plan_reader(assembly, forward_shape_, forward_, &make_convolution_forward);
    flop_ = 2.0 * assembly.batch * static_cast<double>(info.shape.elements()) *
            static_cast<double>(assembly.net.parameters()[weight_].elements()) / layer.out;
    bytes_ = static_cast<double>(padded_bytes(shape_.src)) +
             static_cast<double>(padded_bytes(shape_.dst)) +
             static_cast<double>(padded_bytes(weights_.made.weights));
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    Value& input = assembly.values[input_];
    if (padded_slot_ < 0 && input.recipe != nullptr) {
      recipe_ = input.recipe;
      again_slot_ = assembly.add_buffer(padded_bytes(shape_.src));
    } else if (padded_slot_ < 0) {
      assembly.use(input_);
    }
    if (input.needs_gradient) {
      plan_reader(assembly, shape_, data_, &make_convolution_data);
      src_gradient_slot_ = assembly.add_buffer(padded_bytes(shape_.src));
      input.gradients.push_back(src_gradient_slot_);
    }
    return has_bias_ ? std::vector<int>{weight_, bias_} : std::vector<int>{weight_};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    const int read_slot = padded_slot_ < 0 ? src_slot_ : padded_slot_;
    const auto src = where.memory(forward_shape_.src, where.at(read_slot));
    const auto dst = where.memory(shape_.dst, where.at(dst_slot_));
    const auto gradient = where.memory(shape_.dst, where.at(gradient_slot_));
    std::unordered_map<int, dnnl::memory> forward{{DNNL_ARG_SRC, src}, {DNNL_ARG_DST, dst}};
    again_ = where.at(again_slot_);
    std::unordered_map<int, dnnl::memory> weights{
        {DNNL_ARG_SRC, again_ == nullptr ? src : where.memory(forward_shape_.src, again_)},
        {DNNL_ARG_DIFF_DST, gradient},
        {DNNL_ARG_DIFF_WEIGHTS, where.memory(weights_.made.weights, where.gradients[weight_])}};
    if (has_bias_) {
      forward.insert({DNNL_ARG_BIAS, where.memory(shape_.bias, where.parameters[bias_])});
      weights.insert({DNNL_ARG_DIFF_BIAS, where.memory(shape_.bias, where.gradients[bias_])});
    }
    forward_.bind(where, where.parameters[weight_], std::move(forward));
    weights_.bind(where, std::move(weights));
    if (padded_slot_ >= 0) {
      padding_.bind(where,
                    {{DNNL_ARG_FROM, where.memory(padding_.made.src, where.at(src_slot_))},
                     {DNNL_ARG_TO, where.memory(padding_.made.dst, where.at(padded_slot_))}});
    }
    if (src_gradient_slot_ < 0) return;
    data_.bind(where, where.parameters[weight_],
               {{DNNL_ARG_DIFF_DST, gradient},
                {DNNL_ARG_DIFF_SRC, where.memory(shape_.src, where.at(src_gradient_slot_))}});
  }

  void forward(Pass& pass) override {
    if (padded_slot_ >= 0) {
      pass.run(name_, "forward", "padding " + padding_.made.implementation, 0,
               2.0 * static_cast<double>(padded_bytes(shape_.src)), [&] { padding_(pass); });
    }
    forward_.run(pass, name_, "forward", flop_, bytes_);
  }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    if (recipe_ != nullptr) recipe_->make_again(pass, again_);
    pass.run(name_, "backward_weights", weights_.made.implementation, flop_, bytes_,
             [&] { weights_(pass); });
    pass.ready(weight_);
    if (has_bias_) pass.ready(bias_);
    if (src_gradient_slot_ >= 0) data_.run(pass, name_, "backward_data", flop_, bytes_);
  }

 private:
  using Maker = Made (*)(const dnnl::engine&, const ConvolutionShape&);

  ConvolutionShape shape_of(const Assembly& assembly, const Conv2d& layer) const {
    const auto& weight = assembly.net.parameters()[weight_];
    ConvolutionShape shape;
    shape.src = assembly.values[input_].desc;
    shape.dst = assembly.values[node_].desc;
    shape.weights = make_desc({weight.dims.begin(), weight.dims.end()}, Tag::any);
    shape.has_bias = layer.bias;
    if (layer.bias) shape.bias = make_desc({layer.out}, Tag::a);
    shape.strides = {layer.stride, layer.stride};
    shape.pad_before = shape.pad_after = {layer.pad_h, layer.pad_w};
    return shape;
  }

  // Its fast kernels refuse some paddings, with AVX2 for instance that of AlexNet's first
  // convolution (11 x 11, stride 4) and the gradient of 3 x 3 weights on pictures of 2 x 2.
  bool runs_in_reference_code(const Assembly& assembly) const {
    if (shape_.pad_before == Dims{0, 0}) return false;
    const auto is_plain = [&](Maker make) {
      return make(assembly.engine, shape_).implementation.starts_with("ref");
    };
    return is_plain(&make_convolution_forward) || is_plain(&make_convolution_weights);
  }

  // Reads a copy of the input with zeros around it instead. The zeros are those of the fresh arena,
  // so nothing else may lie there.
  void pad_source(Assembly& assembly) {
    const Dims& pad = shape_.pad_before;
    const Shape& in = assembly.node(input_).shape;
    const Dims whole{assembly.batch, in.channels, in.height + 2 * pad[0], in.width + 2 * pad[1]};
    forward_shape_.src =
        input_ == 0 && shape_.src ==
                           make_desc({assembly.batch, in.channels, in.height, in.width}, Tag::nchw)
            ? make_desc(whole, Tag::nchw)
            : assembly.picture(
                  {in.channels, static_cast<int>(whole[2]), static_cast<int>(whole[3])});
    forward_shape_.pad_before = forward_shape_.pad_after = {0, 0};
    padding_.made = make_reorder(
        assembly.engine, shape_.src,
        forward_shape_.src.submemory_desc({assembly.batch, in.channels, in.height, in.width},
                                          {0, 0, pad[0], pad[1]}));
    assembly.need_scratch(padding_.made);
    padded_slot_ = assembly.add_buffer(padded_bytes(forward_shape_.src));
    assembly.arena.keep(padded_slot_);
  }

  bool may_use_winograd(const Assembly& assembly) const {
    const auto& layer = std::get<Conv2d>(assembly.node(node_).layer);
    return assembly.winograd && layer.kernel_h == 3 && layer.kernel_w == 3 && layer.stride == 1 &&
           input_ != 0;
  }

  // Weight gradients are made in a layout that both algorithms share, so that a plan with Winograd
  // and one without could exchange parameters.
  Made choose(const Assembly& assembly, Maker make) {
    const Made direct = make(assembly.engine, forward_shape_);
    if (!may_use_winograd(assembly)) return direct;
    ConvolutionShape shape = forward_shape_;
    shape.kind = ConvolutionKind::kWinograd;
    shape.weights = direct.weights;
    try {
      return make(assembly.engine, shape);
    } catch (const DnnlError& error) {
      if (!error.unimplemented) throw;
      return direct;
    }
  }

  void plan_reader(Assembly& assembly, ConvolutionShape shape, WeightReader& reader, Maker make) {
    const auto with = [&](const Desc& weights) {
      shape.weights = weights;
      return make(assembly.engine, shape);
    };
    const Desc& master = assembly.parameter_layouts[weight_];
    if (may_use_winograd(assembly)) {
      shape.kind = ConvolutionKind::kWinograd;
      try {
        return reader.plan(assembly, master, shape_.weights, with);
      } catch (const DnnlError& error) {
        if (!error.unimplemented) throw;
        shape.kind = ConvolutionKind::kDirect;
      }
    }
    reader.plan(assembly, master, shape_.weights, with);
  }

  int node_, input_ = -1, weight_ = -1, bias_ = -1;
  bool has_bias_ = false;
  std::string name_;
  ConvolutionShape shape_;
  ConvolutionShape forward_shape_;  // of the forward pass and the weights' gradient
  int padded_slot_ = -1;            // the input with zeros around it, if they read that
  Call padding_;
  Recipe* recipe_ = nullptr;  // of the input, if it is made again in backward
  int again_slot_ = -1;
  float* again_ = nullptr;
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1, src_gradient_slot_ = -1;
  WeightReader forward_, data_;
  Call weights_;
  GradientSum sum_;
  double flop_ = 0, bytes_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_convolution_op(int node) { return std::make_unique<ConvolutionOp>(node); }

}  // namespace rackmark::worker::onednn
