// A convolution, linear layer or lone batch norm of a net that only answers: batch norm folded into
// the weights, bias, residual and ReLU in the library's own epilogue where it has one.
#include <algorithm>

#include "worker/backend/cuda/plan/constants.hpp"
#include "worker/backend/cuda/plan/convolution_task.hpp"
#include "worker/backend/cuda/plan/inference_op.hpp"

namespace rackmark::worker::cuda {
namespace {

// What the three kinds share: weights in the stored type, biases in float32.
class InferenceLayerOp : public InferenceOp {
 public:
  InferenceLayerOp(Unit unit, Folded folded) : unit_(std::move(unit)), folded_(std::move(folded)) {}
  std::vector<int> plan_backward(Assembly&) override { return {}; }
  void backward(Pass&) override {}
  int output() const override { return unit_.output; }

  void plan_constants(Offsets& constants, Type type) override {
    type_ = weight_type(type);
    weights_at_ = constants.add(layout_.stored() * width(type_));
    bias_at_ = constants.add(4 * std::ssize(folded_.bias));
    if (has_narrow_bias()) narrow_bias_at_ = constants.add(width(type_) * std::ssize(folded_.bias));
  }
  void write_constants(Device& device, std::byte* base) override {
    const std::vector<float> stored = layout_.to_memory(folded_.weights);
    write_values(device, stored, type_, base + weights_at_);
    write_values(device, folded_.bias, Type::kFloat, base + bias_at_);
    w_ = base + weights_at_;
    bias_ = reinterpret_cast<const float*>(base + bias_at_);
    if (has_narrow_bias()) {
      write_values(device, folded_.bias, type_, base + narrow_bias_at_);
      narrow_bias_ = base + narrow_bias_at_;
    }
    folded_ = {};
  }

 protected:
  virtual Type weight_type(Type stored) const { return stored; }
  // Some libraries add a bias of the stored type only: once made so, it need not be in every run.
  virtual bool has_narrow_bias() const { return false; }

  Unit unit_;
  Folded folded_;
  ParameterLayout layout_;
  std::string name_;
  Place x_place_, y_place_;
  const void* w_ = nullptr;
  const float* bias_ = nullptr;
  const void* narrow_bias_ = nullptr;

 private:
  Type type_ = Type::kFloat;
  std::int64_t weights_at_ = 0, bias_at_ = 0, narrow_bias_at_ = 0;
};

// Inside a concat the library would write a dense result and copy it: bias and ReLU are then on the
// way from a dense buffer of ours into the concat.
class InferenceConvolutionOp final : public InferenceLayerOp {
 public:
  using InferenceLayerOp::InferenceLayerOp;

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(unit_.node);
    const auto& layer = std::get<Conv2d>(info.layer);
    name_ = info.name;
    const int input = unit_.inputs[0];
    x_place_ = assembly.use(input);
    layout_ = {.out = folded_.dims[0],
               .channels = folded_.dims[1],
               .area = folded_.dims[2] * folded_.dims[3],
               .stored_channels = x_place_.channels};
    if (unit_.residual >= 0) residual_place_ = assembly.use(unit_.residual);
    y_place_ = result_place_ = assembly.define(unit_.output);
    if (!y_place_.is_dense()) {
      result_place_ = assembly.add_place(y_place_.rows, y_place_.channels, y_place_.type);
    }
    const Shape& in = assembly.values[input].shape;
    task_ = convolution_task(layer, {assembly.batch, in, x_place_.channels}, assembly.type,
                             assembly.arithmetic, x_place_.stride, result_place_.stride);
    task_.bias = y_place_.is_dense();
    task_.residual = y_place_.is_dense() && unit_.residual >= 0;
    task_.relu = y_place_.is_dense() && unit_.relu;
  }
  void prepare(Engines& engines) override { convolution_ = engines.find(task_); }
  void bind(const Binding& where) override {
    x_ = where.matrix(x_place_).data;
    y_ = where.matrix(y_place_);
    result_ = where.matrix(result_place_);
    residual_ = where.matrix(residual_place_);
  }
  void forward(Pass& pass) override {
    pass.run(
        name_, "forward", convolution_->implementation(), task_.flop(),
        static_cast<double>(x_place_.bytes() + result_place_.bytes() + residual_place_.bytes()),
        [&] {
          convolution_->run({.x = x_,
                             .w = w_,
                             .y = result_.data,
                             .bias = bias_,
                             .narrow_bias = narrow_bias_,
                             .residual = residual_.data},
                            pass.workspace);
        });
    if (task_.bias) return;
    const double bytes = 2.0 * static_cast<double>(result_place_.bytes());
    const bool adds = residual_.data != nullptr;
    pass.run(name_, "forward", "add_bias", pass.kernels.add_bias, bytes,
             {result_, adds ? result_ : y_, bias_, unit_.relu && !adds, nullptr});
    if (!adds) return;
    pass.run(name_, "forward", "sum", pass.kernels.sum, 1.5 * bytes,
             {result_, residual_, y_, unit_.relu, nullptr});
  }

 private:
  bool has_narrow_bias() const override { return task_.bias && task_.type != Type::kFloat; }

  ConvolutionTask task_;
  std::shared_ptr<Convolution> convolution_;
  Place residual_place_, result_place_;
  void* x_ = nullptr;
  Matrix y_, result_, residual_;
};

class InferenceLinearOp final : public InferenceLayerOp {
 public:
  using InferenceLayerOp::InferenceLayerOp;

  void plan_forward(Assembly& assembly) override {
    name_ = assembly.node(unit_.node).name;
    const int input = unit_.inputs[0];
    x_place_ = assembly.use(input);
    const Shape& order = assembly.values[input].order;
    layout_ = {.out = folded_.dims[0],
               .channels = order.channels,
               .area = std::int64_t{order.height} * order.width,
               .stored_channels = order.channels};
    const bool is_head = assembly.net.heads()[0].node == unit_.output;
    y_place_ = assembly.define_flat(unit_.output, is_head ? Type::kFloat : assembly.type);
    task_ = {.type = assembly.type,
             .arithmetic = assembly.arithmetic,
             .rows = assembly.batch,
             .columns = folded_.dims[0],
             .inner = folded_.dims[1],
             .transpose_b = true,
             .float_result = y_place_.type == Type::kFloat};
  }
  void prepare(Engines& engines) override { product_ = engines.find(task_); }
  void bind(const Binding& where) override {
    x_ = where.matrix(x_place_).data;
    y_ = where.matrix(y_place_);
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", product_->implementation(), task_.flop(),
             static_cast<double>(task_.columns * task_.inner * width(task_.type)),
             [&] { product_->run({.a = x_, .b = w_, .c = y_.data}, pass.workspace); });
    const Kernels& kernels = y_place_.type == Type::kFloat ? pass.floats : pass.kernels;
    pass.run(name_, "forward", "add_bias", kernels.add_bias,
             2.0 * static_cast<double>(y_place_.bytes()), {y_, y_, bias_, unit_.relu, nullptr});
  }

 private:
  ProductTask task_;
  std::shared_ptr<Product> product_;
  const void* x_ = nullptr;
  Matrix y_;
};

// A batch norm that follows no convolution: its weights are factors, in float32.
class InferenceNormOp final : public InferenceLayerOp {
 public:
  using InferenceLayerOp::InferenceLayerOp;

  void plan_forward(Assembly& assembly) override {
    name_ = assembly.node(unit_.node).name;
    x_place_ = assembly.use(unit_.inputs[0]);
    layout_ = {.out = std::ssize(folded_.weights)};
    y_place_ = assembly.define(unit_.output);
  }
  void bind(const Binding& where) override {
    x_ = where.matrix(x_place_);
    y_ = where.matrix(y_place_);
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", "norm_apply", pass.kernels.norm_apply,
             2.0 * static_cast<double>(x_place_.bytes()),
             {.x = x_,
              .y = y_,
              .scale = static_cast<const float*>(w_),
              .shift = bias_,
              .relu = unit_.relu});
  }

 private:
  Type weight_type(Type) const override { return Type::kFloat; }
  Matrix x_, y_;
};

}  // namespace

std::unique_ptr<InferenceOp> make_inference_layer_op(const Net& net, const Unit& unit,
                                                     const TrainedValues& values) {
  Folded folded = fold(net, unit, values);
  const Layer& layer = net.nodes()[unit.node].layer;
  if (std::holds_alternative<Conv2d>(layer)) {
    return std::make_unique<InferenceConvolutionOp>(unit, std::move(folded));
  }
  if (std::holds_alternative<Linear>(layer)) {
    return std::make_unique<InferenceLinearOp>(unit, std::move(folded));
  }
  return std::make_unique<InferenceNormOp>(unit, std::move(folded));
}

}  // namespace rackmark::worker::cuda
