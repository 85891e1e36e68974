#include "worker/backend/cuda/plan/convolution_choice.hpp"
#include "worker/backend/cuda/plan/convolution_task.hpp"
#include "worker/backend/cuda/plan/layer_output.hpp"

namespace rackmark::worker::cuda {
namespace {

class ConvolutionOp final : public Op {
 public:
  ConvolutionOp(int node, int relu, bool statistics)
      : node_(node), statistics_(statistics), output_(node, relu) {}

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    const auto& layer = std::get<Conv2d>(info.layer);
    name_ = info.name;
    input_ = info.inputs[0];
    x_place_ = assembly.use(input_);
    weight_ = assembly.parameter(node_, "weight");
    assembly.layouts[weight_] =
        convolution_layout(assembly.net.parameters()[weight_], x_place_.channels);
    y_place_ = assembly.define(output_.output());
    const Shape& in = assembly.values[input_].shape;
    task_ = convolution_task(layer, {assembly.batch, in, x_place_.channels}, assembly.type,
                             assembly.arithmetic, x_place_.stride, y_place_.stride);
    if (statistics_) {
      sums_ = std::make_shared<ChannelSums>();
      sums_->slot = assembly.add_floats(2 * layer.out);
      assembly.values[output_.output()].sums = sums_;
    }
    norm_ = assembly.values[input_].norm;
    if (norm_) {
      assembly.use(norm_->x);
      assembly.arena.use(norm_->narrow_slot, assembly.event);
    }
    output_.plan_forward(assembly, y_place_);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = output_.plan_backward(assembly);
    assembly.use(x_place_);
    target_ = assembly.gradient_target(input_);
    if (norm_) {
      assembly.use(norm_->x);
      for (const int slot : {norm_->narrow_slot, norm_->kept_slot}) {
        assembly.arena.use(slot, assembly.event);
      }
      norm_->sums_slot = assembly.add_floats(std::int64_t{NormOperands::kSums} * x_place_.channels);
    }
    std::vector<int> finished{weight_};
    if (output_.has_bias()) finished.push_back(output_.bias());
    return finished;
  }

  void prepare(Engines& engines) override {
    ConvolutionTasks tasks{.forward = task_, .weights = task_};
    tasks.weights.y_stride = dy_place_.stride;
    tasks.weights.pass = ConvolutionPass::kBackwardWeights;
    if (target_.place.exists()) {
      ConvolutionTask& data = tasks.data.emplace(tasks.weights);
      data.pass = ConvolutionPass::kBackwardData;
      data.x_stride = target_.place.stride;
      data.accumulate = target_.accumulate;
    }
    engines_ = choose_engines(engines, tasks, y_place_, sums_.get(), norm_.get());
  }

  void bind(const Binding& where) override {
    output_.bind(where);
    x_ = where.matrix(x_place_).data;
    y_ = where.matrix(y_place_).data;
    dy_ = where.matrix(dy_place_).data;
    dx_ = where.matrix(target_.place).data;
    w_ = where.narrow[weight_];
    gradient_ = where.gradients[weight_];
    if (sums_ && sums_->made) sum_values_ = where.floats(sums_->slot);
    if (norm_) bind_norm(where);
  }

  void forward(Pass& pass) override {
    const ConvolutionOperands operands{.x = x_,
                                       .w = w_,
                                       .y = y_,
                                       .sums = sum_values_,
                                       .x_scale = narrow_.scale,
                                       .x_shift = narrow_.shift};
    pass.run(name_, "forward", engines_.forward->implementation(), task_.flop(),
             static_cast<double>(x_place_.bytes() + y_place_.bytes()),
             [&] { engines_.forward->run(operands, pass.workspace); });
    output_.forward(pass);
  }

  void backward(Pass& pass) override {
    output_.backward(pass);
    const double bytes = static_cast<double>(x_place_.bytes() + dy_place_.bytes());
    const ConvolutionOperands of_weights{.x = x_,
                                         .y = dy_,
                                         .gradient = gradient_,
                                         .x_scale = narrow_.scale,
                                         .x_shift = narrow_.shift};
    pass.run(name_, "backward_weights", engines_.weights->implementation(), task_.flop(), bytes,
             [&] { engines_.weights->run(of_weights, pass.workspace); });
    pass.ready(weight_);
    output_.ready(pass);
    if (engines_.data == nullptr) return;
    const bool reads_x = target_.accumulate || norm_operands_.x != nullptr;
    pass.run(name_, "backward_data", engines_.data->implementation(), task_.flop(),
             bytes + (reads_x ? static_cast<double>(x_place_.bytes()) : 0.0), [&] {
               engines_.data->run({.x = dx_, .w = w_, .y = dy_, .norm = norm_operands_},
                                  pass.workspace);
             });
  }
  int output() const override { return output_.output(); }

 private:
  void bind_norm(const Binding& where) {
    const int channels = x_place_.channels;
    void* input = where.matrix(norm_->x).data;
    if (norm_->applies) {
      x_ = input;
      narrow_ = narrow_norm(where, *norm_);
    }
    if (!norm_->sums) return;
    const float* kept = where.floats(norm_->kept_slot);
    norm_operands_ = {.x = input,
                      .mean = kept,
                      .inverse_deviation = kept + channels,
                      .weight = where.parameters[norm_->weight],
                      .bias = where.parameters[norm_->bias],
                      .sums = where.floats(norm_->sums_slot)};
  }

  int node_, input_ = -1, weight_ = -1;
  bool statistics_;
  LayerOutput output_;
  std::string name_;
  ConvolutionTask task_;
  Place x_place_, y_place_, dy_place_;
  GradientTarget target_;
  ConvolutionEngines engines_;
  void *x_ = nullptr, *y_ = nullptr, *dy_ = nullptr, *dx_ = nullptr;
  const void* w_ = nullptr;
  float *gradient_ = nullptr, *sum_values_ = nullptr;
  std::shared_ptr<ChannelSums> sums_;        // null: not wanted
  std::shared_ptr<NormInConvolution> norm_;  // that x comes from; may be null
  NarrowNorm narrow_;                        // where it norms x
  NormOperands norm_operands_;
};

}  // namespace

std::unique_ptr<Op> make_convolution_op(int node, int relu, bool statistics) {
  return std::make_unique<ConvolutionOp>(node, relu, statistics);
}

}  // namespace rackmark::worker::cuda
