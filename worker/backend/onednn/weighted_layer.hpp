// What convolutions and linear layers share: three passes over weights, and where their gradients
// go.
#pragma once

#include "worker/backend/onednn/weight_reader.hpp"

namespace rackmark::worker::onednn {

// The shape as primitives that compute in `type` want it.
template <class LayerShape>
LayerShape computed_in(DataType type, LayerShape shape) {
  if (type == DataType::f32) {
    shape.src = with_type(shape.src, type);
    shape.dst = with_type(shape.dst, type);
  }
  shape.weights = make_desc(dims_of(shape.weights), type, Tag::any);
  return shape;
}

template <class LayerShape>  // ConvolutionShape, LinearShape
class WeightedLayer {
 public:
  using Maker = Made (*)(const dnnl::engine&, const LayerShape&);
  WeightedLayer(Maker forward, Maker data, Maker weights)
      : make_forward_(forward), make_data_(data), make_weights_(weights) {}

  // src and dst as stored. The layout of the weights' gradient is the layout in which the plan
  // keeps the weights. First of the three.
  void plan_weights(Assembly& assembly, int node, const LayerShape& shape) {
    name_ = assembly.node(node).name;
    weight_ = assembly.parameter(node, "weight");
    stored_ = shape;
    Desc& master = assembly.parameter_layouts[weight_];
    const LayerShape backward = backward_shape(assembly, stored_);
    Made made = make_in_stored_type(assembly, name_, [&](DataType type) {
      LayerShape computed = computed_in(type, backward);
      computed.weights = make_desc(dims_of(shape.weights), Tag::any);  // float32 in any case
      return make_weights_(assembly.engine, computed);
    });
    master = made.weights;
    if (stored_.has_bias) {
      bias_ = assembly.parameter(node, "bias");
      assembly.parameter_layouts[bias_] = stored_.bias;
    }
    const std::vector<StoredOperand> operands{{DNNL_ARG_SRC, made.src, stored_.src},
                                              {DNNL_ARG_DIFF_DST, made.dst, backward.dst}};
    weights_.plan(assembly, std::move(made), operands);
    const auto& parameter = assembly.net.parameters()[weight_];
    const Shape& out = assembly.node(node).shape;
    flop_ =
        2.0 * assembly.batch * out.height * out.width * static_cast<double>(parameter.elements());
    bytes_ = static_cast<double>(padded_bytes(stored_.src)) +
             static_cast<double>(padded_bytes(stored_.dst)) +
             static_cast<double>(padded_bytes(master));
  }

  // The pass that makes the output.
  void plan_forward(Assembly& assembly, const LayerShape& shape) {
    plan_reader(assembly, forward_, shape, make_forward_, {DNNL_ARG_SRC, DNNL_ARG_DST});
    has_forward_ = true;
  }

  // Work that takes the place of oneDNN's in one pass, from and into the same places. Forward and
  // data need no plan then.
  struct OwnPass {
    std::string implementation;
    std::function<void(Pass&)> work;
  };
  void use_forward(OwnPass own) { own_forward_ = std::move(own); }
  void use_data(OwnPass own) { own_data_ = std::move(own); }
  void use_weights(OwnPass own) { own_weights_ = std::move(own); }

  const Made& weights() const { return weights_.made(); }
  struct Parameters {
    float *weights, *weight_gradient;
    float *bias = nullptr, *bias_gradient = nullptr;  // null: none
  };
  Parameters parameters_at(const Binding& where) const {
    Parameters at{where.parameters[weight_], where.gradients[weight_]};
    if (bias_ >= 0) at.bias = where.parameters[bias_], at.bias_gradient = where.gradients[bias_];
    return at;
  }

  // The pass that makes the gradient of the input.
  void plan_data(Assembly& assembly, const LayerShape& shape) {
    data_stored_ = backward_shape(assembly, shape);
    plan_reader(assembly, data_, data_stored_, make_data_, {DNNL_ARG_DIFF_SRC, DNNL_ARG_DIFF_DST});
    has_data_ = true;
  }

  struct Places {
    void *src, *dst;
    void *gradient, *src_in_backward;
    void* src_gradient;  // read with plan_data() only
  };
  void bind(const Binding& where, const Places& at) {
    const Desc gradient_desc =
        with_type(stored_.dst, where.storage == Storage::kBfloat ? DataType::bf16 : DataType::f32);
    const auto gradient = where.memory(gradient_desc, at.gradient);
    std::unordered_map<int, dnnl::memory> forward{
        {DNNL_ARG_SRC, where.memory(stored_.src, at.src)},
        {DNNL_ARG_DST, where.memory(stored_.dst, at.dst)}};
    std::unordered_map<int, dnnl::memory> weights{
        {DNNL_ARG_SRC, where.memory(stored_.src, at.src_in_backward)},
        {DNNL_ARG_DIFF_DST, gradient},
        {DNNL_ARG_DIFF_WEIGHTS, where.memory(weights_.made().weights, where.gradients[weight_])}};
    if (bias_ >= 0) {
      forward.insert({DNNL_ARG_BIAS, where.memory(stored_.bias, where.parameters[bias_])});
      weights.insert({DNNL_ARG_DIFF_BIAS, where.memory(stored_.bias, where.gradients[bias_])});
    }
    if (has_forward_) forward_.bind(where, where.parameters[weight_], std::move(forward));
    weights_.bind(where, std::move(weights));
    if (!has_data_) return;
    data_.bind(where, where.parameters[weight_],
               {{DNNL_ARG_DIFF_DST, gradient},
                {DNNL_ARG_DIFF_SRC, where.memory(data_stored_.src, at.src_gradient)}});
  }

  void forward(Pass& pass) {
    if (has_forward_) return forward_.run(pass, name_, "forward", flop_, bytes_);
    run(pass, "forward", own_forward_);
  }

  void backward(Pass& pass) {
    if (own_weights_.work) {
      run(pass, "backward_weights", own_weights_);
    } else {
      run(pass, "backward_weights",
          {weights_.made().implementation, [this](Pass& p) { weights_(p); }});
    }
    for (const int parameter : parameters()) pass.ready(parameter);
    if (has_data_) return data_.run(pass, name_, "backward_data", flop_, bytes_);
    if (own_data_.work) run(pass, "backward_data", own_data_);
  }

  // In the order in which backward finishes their gradients.
  std::vector<int> parameters() const {
    return bias_ >= 0 ? std::vector<int>{weight_, bias_} : std::vector<int>{weight_};
  }

 private:
  static LayerShape backward_shape(const Assembly& assembly, LayerShape shape) {
    shape.dst = with_type(shape.dst, assembly.stored);
    return shape;
  }

  void run(Pass& pass, const char* name, const OwnPass& own) {
    pass.run(name_, name, own.implementation, flop_, bytes_, [&] { own.work(pass); });
  }

  struct Arguments {
    int src, dst;
  };
  void plan_reader(Assembly& assembly, WeightReader& reader, const LayerShape& stored, Maker maker,
                   Arguments arguments) {
    const Desc& master = assembly.parameter_layouts[weight_];
    Made made = make_in_stored_type(assembly, name_, [&](DataType type) {
      LayerShape shape = computed_in(type, stored);
      return reader.choose(master, shape.weights, [&](const Desc& weights) {
        shape.weights = weights;
        return maker(assembly.engine, shape);
      });
    });
    const std::vector<StoredOperand> operands{{arguments.src, made.src, stored.src},
                                              {arguments.dst, made.dst, stored.dst}};
    reader.plan(assembly, master, std::move(made), operands);
  }

  Maker make_forward_, make_data_, make_weights_;
  std::string name_;
  int weight_ = -1, bias_ = -1;
  LayerShape stored_, data_stored_;
  bool has_forward_ = false, has_data_ = false;
  WeightReader forward_, data_;
  Call weights_;
  OwnPass own_forward_, own_data_, own_weights_;
  double flop_ = 0, bytes_ = 0;
};

}  // namespace rackmark::worker::onednn
