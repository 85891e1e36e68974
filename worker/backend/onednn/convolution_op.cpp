#include <cstring>

#include "worker/backend/onednn/picture_loops.hpp"
#include "worker/backend/onednn/weight_gradient.hpp"
#include "worker/backend/onednn/weighted_layer.hpp"
#include "worker/backend/onednn/winograd_layer.hpp"

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
    batch_ = assembly.batch, block_ = assembly.block;
    out_ = info.shape;
    src_slot_ = assembly.use(input_);
    assembly.define(node_, assembly.picture(info.shape));
    dst_slot_ = assembly.values[node_].slot;
    shape_ = shape_of(assembly, layer);
    forward_shape_ = shape_;
    if (runs_in_reference_code(assembly)) pad_source(assembly);
    layer_.plan_weights(assembly, node_, forward_shape_);
    if (padded_slot_ < 0)
      winograd_ = WinogradLayer::plan(assembly, shape_, layer_.weights().weights);
    if (winograd_) return;
    layer_.plan_forward(assembly, forward_shape_);
    weight_gradient_ = WeightGradient::plan(assembly, forward_shape_, layer_.weights());
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
      if (winograd_) {
        winograd_->plan_data(assembly);
      } else {
        layer_.plan_data(assembly, shape_);
      }
      src_gradient_slot_ = assembly.add_gradient(shape_.src);
      input.gradients.push_back(src_gradient_slot_);
    }
    return layer_.parameters();
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    src_ = where.at(src_slot_);
    padded_ = where.at(padded_slot_);
    again_ = where.at(again_slot_);
    void* src = padded_slot_ < 0 ? src_ : padded_;
    layer_.bind(where, {.src = src,
                        .dst = where.at(dst_slot_),
                        .gradient = where.at(gradient_slot_),
                        .src_in_backward = again_slot_ < 0 ? src : again_,
                        .src_gradient = where.at(src_gradient_slot_)});
    const auto* src_in_backward =
        static_cast<const float*>(again_slot_ < 0 ? src : static_cast<void*>(again_));
    if (weight_gradient_) bind_weight_gradient(where, src_in_backward);
    if (winograd_) bind_winograd(where, src_in_backward);
  }

  void forward(Pass& pass) override {
    if (padded_slot_ >= 0) {
      pass.run(name_, "forward", "padded copy", 0,
               2.0 * static_cast<double>(padded_bytes(shape_.src)), [&] { pad(); });
    }
    layer_.forward(pass);
  }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    if (recipe_ != nullptr) recipe_->make_again(pass, again_);
    layer_.backward(pass);
  }

 private:
  void bind_weight_gradient(const Binding& where, const float* x) {
    weight_gradient_->bind(where.scratch);
    const auto at = layer_.parameters_at(where);
    const float* dy = where.floats(gradient_slot_);
    layer_.use_weights({"rackmark:avx2", [this, x, dy, at](Pass& pass) {
                          weight_gradient_->run(x, dy, at.weight_gradient);
                          add_up_bias(pass, dy, at.bias_gradient);
                        }});
  }

  void add_up_bias(Pass& pass, const float* dy, float* db) const {
    if (db != nullptr) bias_gradient(pass.kernels, {batch_, block_, out_}, dy, db);
  }

  void bind_winograd(const Binding& where, const float* x_in_backward) {
    const std::string name = winograd_->name();
    const auto parameters = layer_.parameters_at(where);
    winograd_->bind(where, {.x = where.floats(src_slot_),
                            .x_in_backward = x_in_backward,
                            .weights = parameters.weights,
                            .bias = parameters.bias,
                            .y = where.floats(dst_slot_),
                            .dy = where.floats(gradient_slot_),
                            .dx = where.floats(src_gradient_slot_),
                            .weight_gradient = parameters.weight_gradient});
    layer_.use_forward({name, [this](Pass&) { winograd_->forward(); }});
    layer_.use_weights({name, [this, dy = where.floats(gradient_slot_),
                               db = parameters.bias_gradient](Pass& pass) {
                          winograd_->backward_weights();
                          add_up_bias(pass, dy, db);
                        }});
    if (src_gradient_slot_ < 0) return;
    layer_.use_data({name, [this](Pass&) { winograd_->backward_data(); }});
  }

  ConvolutionShape shape_of(const Assembly& assembly, const Conv2d& layer) const {
    const auto& weight = assembly.net.parameters()[assembly.parameter(node_, "weight")];
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
    const DataType type = has_bf16() ? assembly.stored : DataType::f32;
    const ConvolutionShape shape = computed_in(type, shape_);
    const auto is_plain = [&](Made (*make)(const dnnl::engine&, const ConvolutionShape&)) {
      return make(assembly.engine, shape).implementation.starts_with("ref");
    };
    return is_plain(&make_convolution_forward) || is_plain(&make_convolution_weights);
  }

  // Reads a copy of the input with zeros around it instead. The zeros are those of the fresh arena,
  // so nothing else may lie there.
  void pad_source(Assembly& assembly) {
    const Dims& pad = shape_.pad_before;
    in_ = assembly.node(input_).shape;
    const Dims whole{assembly.batch, in_.channels, in_.height + 2 * pad[0], in_.width + 2 * pad[1]};
    const Dims exact{assembly.batch, in_.channels, in_.height, in_.width};
    const bool plain = shape_.src == make_desc(exact, assembly.stored, Tag::nchw);
    forward_shape_.src = plain ? make_desc(whole, assembly.stored, Tag::nchw)
                               : assembly.picture({in_.channels, static_cast<int>(whole[2]),
                                                   static_cast<int>(whole[3])});
    forward_shape_.pad_before = forward_shape_.pad_after = {0, 0};
    pixel_ = plain ? 1 : assembly.block;
    planes_ = assembly.batch * (plain ? in_.channels : assembly.block_count(in_));
    padded_slot_ = assembly.add_buffer(padded_bytes(forward_shape_.src));
    assembly.arena.keep(padded_slot_);
  }

  // Row by row into the middle of the copy.
  void pad() const {
    const std::int64_t high = shape_.pad_before[0], wide = shape_.pad_before[1];
    const std::int64_t padded_width = in_.width + 2 * wide;
    const auto row_bytes = static_cast<std::size_t>(in_.width * pixel_ * src_.width());
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < planes_; ++plane) {
      const std::int64_t top = plane * (in_.height + 2 * high) + high;
      for (std::int64_t h = 0; h < in_.height; ++h) {
        std::memcpy(padded_ + ((top + h) * padded_width + wide) * pixel_,
                    src_ + (plane * in_.height + h) * in_.width * pixel_, row_bytes);
      }
    }
  }

  int node_, input_ = -1, batch_ = 0, block_ = 0;
  std::string name_;
  ConvolutionShape shape_;
  ConvolutionShape forward_shape_;  // of the forward pass and the weights' gradient
  WeightedLayer<ConvolutionShape> layer_{&make_convolution_forward, &make_convolution_data,
                                         &make_convolution_weights};
  std::optional<WeightGradient> weight_gradient_;  // ours, where it is faster than oneDNN's
  std::optional<WinogradLayer> winograd_;          // all passes
  int padded_slot_ = -1;  // the input with zeros around it, if they read that
  Shape in_;              // of the input, then
  Shape out_;
  std::int64_t planes_ = 0, pixel_ = 1;
  Cells src_, padded_;
  Recipe* recipe_ = nullptr;  // of the input, if it is made again in backward
  int again_slot_ = -1;
  Cells again_;
  int src_slot_ = -1, dst_slot_ = -1, gradient_slot_ = -1, src_gradient_slot_ = -1;
  GradientSum sum_;
};

}  // namespace

std::unique_ptr<Op> make_convolution_op(int node) { return std::make_unique<ConvolutionOp>(node); }

}  // namespace rackmark::worker::onednn
