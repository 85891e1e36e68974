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
    output_.plan_forward(assembly, y_place_);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = output_.plan_backward(assembly);
    assembly.use(x_place_);
    target_ = assembly.gradient_target(input_);
    std::vector<int> finished{weight_};
    if (output_.has_bias()) finished.push_back(output_.bias());
    return finished;
  }

  void prepare(Engines& engines) override {
    forward_ = engines.find(task_);
    if (sums_) choose_sums(engines);
    ConvolutionTask back = task_;
    back.y_stride = dy_place_.stride;
    back.pass = ConvolutionPass::kBackwardWeights;
    weights_ = engines.find(back);
    if (!target_.place.exists()) return;
    back.pass = ConvolutionPass::kBackwardData;
    back.x_stride = target_.place.stride;
    back.accumulate = target_.accumulate;
    data_ = engines.find(back);
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
  }

  void forward(Pass& pass) override {
    pass.run(name_, "forward", forward_->implementation(), task_.flop(),
             static_cast<double>(x_place_.bytes() + y_place_.bytes()), [&] {
               forward_->run({.x = x_, .w = w_, .y = y_, .sums = sum_values_}, pass.workspace);
             });
    output_.forward(pass);
  }

  void backward(Pass& pass) override {
    output_.backward(pass);
    const double bytes = static_cast<double>(x_place_.bytes() + dy_place_.bytes());
    pass.run(name_, "backward_weights", weights_->implementation(), task_.flop(), bytes,
             [&] { weights_->run({.x = x_, .y = dy_, .gradient = gradient_}, pass.workspace); });
    pass.ready(weight_);
    output_.ready(pass);
    if (data_ == nullptr) return;
    pass.run(name_, "backward_data", data_->implementation(), task_.flop(),
             bytes + (target_.accumulate ? static_cast<double>(x_place_.bytes()) : 0.0),
             [&] { data_->run({.x = dx_, .w = w_, .y = dy_}, pass.workspace); });
  }
  int output() const override { return output_.output(); }

 private:
  // Sums on the way cost an engine something, adding up afterwards is one more pass over y. Where
  // one of them was not timed, what was asked for is done.
  void choose_sums(Engines& engines) {
    ConvolutionTask summing = task_;
    summing.statistics = true;
    const auto with_sums = engines.find(summing);
    const auto without = forward_->ms(), with = with_sums->ms();
    const auto afterwards = without && with ? engines.norm_sums_ms(y_place_) : std::nullopt;
    sums_->made = !afterwards || *with < *without + *afterwards;
    if (sums_->made) forward_ = with_sums;
  }

  int node_, input_ = -1, weight_ = -1;
  bool statistics_;
  LayerOutput output_;
  std::string name_;
  ConvolutionTask task_;
  Place x_place_, y_place_, dy_place_;
  GradientTarget target_;
  std::shared_ptr<Convolution> forward_, weights_, data_;
  void *x_ = nullptr, *y_ = nullptr, *dy_ = nullptr, *dx_ = nullptr;
  const void* w_ = nullptr;
  float *gradient_ = nullptr, *sum_values_ = nullptr;
  std::shared_ptr<ChannelSums> sums_;  // null: not wanted
};

}  // namespace

std::unique_ptr<Op> make_convolution_op(int node, int relu, bool statistics) {
  return std::make_unique<ConvolutionOp>(node, relu, statistics);
}

}  // namespace rackmark::worker::cuda
