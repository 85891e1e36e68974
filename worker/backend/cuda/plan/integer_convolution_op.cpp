// A convolution that computes in 8-bit integers: weights with one step an output channel, batch
// norm folded in before; scale, bias, residual and ReLU in the library's epilogue, inside a concat
// too.
#include "worker/backend/cuda/plan/constants.hpp"
#include "worker/backend/cuda/plan/convolution_task.hpp"
#include "worker/backend/cuda/plan/inference_op.hpp"
#include "worker/backend/integer_weights.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr int kLargestWeight = 127;

class IntegerConvolutionOp final : public InferenceOp {
 public:
  IntegerConvolutionOp(Unit unit, Folded folded)
      : unit_(std::move(unit)), folded_(std::move(folded)) {}
  std::vector<int> plan_backward(Assembly&) override { return {}; }
  void backward(Pass&) override {}
  int output() const override { return unit_.output; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(unit_.node);
    name_ = info.name;
    const Value& x = assembly.values[unit_.inputs[0]];
    x_step_ = x.step;
    given_place_ = x_place_ = assembly.use(unit_.inputs[0]);
    if (given_place_.type != Type::kInteger) {
      x_place_ = assembly.add_place(given_place_.rows, given_place_.channels, Type::kInteger);
    }
    layout_ = {.out = folded_.dims[0],
               .channels = folded_.dims[1],
               .area = folded_.dims[2] * folded_.dims[3],
               .stored_channels = x_place_.channels};
    const ConvolutionInput input{assembly.batch, x.shape, x_place_.channels};
    if (unit_.residual >= 0) {
      residual_place_ = assembly.use(unit_.residual);
      residual_step_ = step_of(assembly.values[unit_.residual]);
    }
    y_place_ = assembly.define(unit_.output);
    y_step_ = step_of(assembly.values[unit_.output]);
    task_ = convolution_task(std::get<Conv2d>(info.layer), input, Type::kInteger,
                             assembly.arithmetic, x_place_.stride, y_place_.stride);
    task_.bias = true;
    task_.relu = unit_.relu;
    task_.residual = unit_.residual >= 0;
    task_.y_type = y_place_.type;
    task_.residual_type = task_.residual ? residual_place_.type : Type::kInteger;
    task_.residual_stride = residual_place_.stride;
  }

  void plan_constants(Offsets& constants, Type) override {
    const std::int64_t floats = 4 * layout_.out;
    weights_at_ = constants.add(layout_.stored());
    scale_at_ = constants.add(floats);
    bias_at_ = constants.add(floats);
    residual_scale_at_ = constants.add(4);
  }
  // The epilogue computes in units of y.
  void write_constants(Device& device, std::byte* base) override {
    const IntegerWeights weights = quantize(folded_, kLargestWeight);
    const std::vector<float> integers(weights.integers.begin(), weights.integers.end());
    write_values(device, layout_.to_memory(integers), Type::kInteger, base + weights_at_);
    std::vector<float> scale = weights.steps, bias = folded_.bias;
    for (float& factor : scale) factor *= x_step_ / y_step_;
    for (float& value : bias) value /= y_step_;
    write_values(device, scale, Type::kFloat, base + scale_at_);
    write_values(device, bias, Type::kFloat, base + bias_at_);
    write_values(device, {residual_step_ / y_step_}, Type::kFloat, base + residual_scale_at_);
    operands_ = {.w = base + weights_at_,
                 .bias = reinterpret_cast<const float*>(base + bias_at_),
                 .scale = reinterpret_cast<const float*>(base + scale_at_),
                 .residual_scale = reinterpret_cast<const float*>(base + residual_scale_at_)};
    folded_ = {};
  }

  void prepare(Engines& engines) override { convolution_ = engines.find(task_); }
  void bind(const Binding& where) override {
    given_ = where.matrix(given_place_);
    x_ = where.matrix(x_place_);
    operands_.x = x_.data;
    operands_.y = where.matrix(y_place_).data;
    operands_.residual = where.matrix(residual_place_).data;
  }
  void forward(Pass& pass) override {
    if (given_.data != x_.data) {
      pass.run(name_, "forward", "to_integers", pass.of(given_place_.type).to_integers,
               static_cast<double>(given_place_.bytes() + x_place_.bytes()),
               {given_, x_, 1 / x_step_});
    }
    pass.run(name_, "forward", convolution_->implementation(), task_.flop(),
             static_cast<double>(x_place_.bytes() + y_place_.bytes() + residual_place_.bytes()),
             [&] { convolution_->run(operands_, pass.workspace); });
  }

 private:
  // Of a value that is stored in 16 bits, a stored 1 stands for 1.
  static float step_of(const Value& value) {
    return value.type == Type::kInteger ? value.step : 1.0F;
  }

  Unit unit_;
  Folded folded_;
  ParameterLayout layout_;
  std::string name_;
  Place given_place_, x_place_, y_place_, residual_place_;
  float x_step_ = 1, y_step_ = 1, residual_step_ = 1;
  std::int64_t weights_at_ = 0, scale_at_ = 0, bias_at_ = 0, residual_scale_at_ = 0;
  ConvolutionTask task_;
  std::shared_ptr<Convolution> convolution_;
  ConvolutionOperands operands_;
  Matrix given_, x_;
};

}  // namespace

std::unique_ptr<InferenceOp> make_integer_convolution_op(const Net& net, const Unit& unit,
                                                         const TrainedValues& values) {
  return std::make_unique<IntegerConvolutionOp>(unit, fold(net, unit, values));
}

}  // namespace rackmark::worker::cuda
