#include "worker/backend/cuda/plan/layer_output.hpp"
#include "worker/backend/cuda/plan/linear_tasks.hpp"

namespace rackmark::worker::cuda {
namespace {

bool is_head(const Net& net, int id) {
  for (const Head& head : net.heads())
    if (head.node == id) return true;
  return false;
}

class LinearOp final : public Op {
 public:
  LinearOp(int node, int relu) : node_(node), output_(node, relu) {}

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    x_place_ = assembly.use(input_);
    weight_ = assembly.parameter(node_, "weight");
    const Parameter& weight = assembly.net.parameters()[weight_];
    assembly.layouts[weight_] = linear_layout(weight, assembly.values[input_].order);
    // A loss reads float32, so that logits are rounded as late as can be.
    const Type type = is_head(assembly.net, output_.output()) ? Type::kFloat : assembly.type;
    y_place_ = assembly.define_flat(output_.output(), type);
    tasks_ = linear_tasks(assembly.type, assembly.arithmetic, assembly.batch, weight.dims[1],
                          weight.dims[0], type == Type::kFloat);
    output_.plan_forward(assembly, y_place_);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = output_.plan_backward(assembly);
    assembly.use(x_place_);
    target_ = assembly.gradient_target(input_);
    dx_place_ = target_.place;
    if (target_.accumulate) {
      dx_place_ = assembly.add_place(x_place_.rows, x_place_.channels, x_place_.type);
    }
    std::vector<int> finished{weight_};
    if (output_.has_bias()) finished.push_back(output_.bias());
    return finished;
  }

  void prepare(Engines& engines) override {
    forward_ = engines.find(tasks_.forward);
    weights_ = engines.find(tasks_.weights);
    if (target_.place.exists()) data_ = engines.find(tasks_.data);
  }

  void bind(const Binding& where) override {
    output_.bind(where);
    x_ = where.matrix(x_place_).data;
    y_ = where.matrix(y_place_).data;
    dy_ = where.matrix(dy_place_).data;
    dx_ = where.matrix(dx_place_);
    sum_ = where.matrix(target_.place);
    w_ = where.narrow[weight_];
    gradient_ = where.gradients[weight_];
  }

  void forward(Pass& pass) override {
    pass.run(name_, "forward", forward_->implementation(), tasks_.forward.flop(), weight_bytes(),
             [&] { forward_->run({.a = x_, .b = w_, .c = y_}, pass.workspace); });
    output_.forward(pass);
  }

  void backward(Pass& pass) override {
    output_.backward(pass);
    pass.run(name_, "backward_weights", weights_->implementation(), tasks_.forward.flop(),
             weight_bytes(),
             [&] { weights_->run({.a = dy_, .b = x_, .c = gradient_}, pass.workspace); });
    pass.ready(weight_);
    output_.ready(pass);
    if (data_ == nullptr) return;
    pass.run(name_, "backward_data", data_->implementation(), tasks_.forward.flop(), weight_bytes(),
             [&] { data_->run({.a = dy_, .b = w_, .c = dx_.data}, pass.workspace); });
    if (!target_.accumulate) return;
    pass.run(name_, "backward_data", "copy", pass.kernels.copy,
             3.0 * static_cast<double>(dx_place_.bytes()), {dx_, sum_, 1, true});
  }
  int output() const override { return output_.output(); }

 private:
  double weight_bytes() const {
    const ProductTask& task = tasks_.forward;
    return static_cast<double>(task.columns * task.inner * width(task.type));
  }

  int node_, input_ = -1, weight_ = -1;
  LayerOutput output_;
  std::string name_;
  LinearTasks tasks_;
  Place x_place_, y_place_, dy_place_, dx_place_;
  GradientTarget target_;
  std::shared_ptr<Product> forward_, weights_, data_;
  const void *x_ = nullptr, *w_ = nullptr, *dy_ = nullptr;
  void* y_ = nullptr;
  Matrix dx_, sum_;
  float* gradient_ = nullptr;
};

}  // namespace

std::unique_ptr<Op> make_linear_op(int node, int relu) {
  return std::make_unique<LinearOp>(node, relu);
}

}  // namespace rackmark::worker::cuda
