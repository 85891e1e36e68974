#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

Picture picture(const Binding& where, const Place& place, const Shape& shape, int images) {
  return {where.matrix(place), images, shape.height, shape.width};
}

class PoolOp : public Op {
 public:
  explicit PoolOp(int node) : node_(node) {}
  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    in_ = assembly.node(input_).shape;
    out_ = info.shape;
    images_ = assembly.batch;
    x_place_ = assembly.use(input_);
    y_place_ = assembly.define(node_);
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = assembly.take_gradient(node_);
    target_ = assembly.gradient_target(input_);
    return {};
  }
  void bind(const Binding& where) override {
    x_ = picture(where, x_place_, in_, images_);
    y_ = picture(where, y_place_, out_, images_);
    dy_ = picture(where, dy_place_, out_, images_);
    dx_ = picture(where, target_.place, in_, images_);
  }
  int output() const override { return node_; }

 protected:
  double bytes() const { return static_cast<double>(x_place_.bytes() + y_place_.bytes()); }
  bool wants_gradient() const { return target_.place.exists(); }

  int node_, input_ = -1, images_ = 0;
  std::string name_;
  Shape in_, out_;
  Place x_place_, y_place_, dy_place_;
  GradientTarget target_;
  Picture x_, y_, dy_, dx_;
};

class MaxPoolOp final : public PoolOp {
 public:
  using PoolOp::PoolOp;
  void plan_forward(Assembly& assembly) override {
    PoolOp::plan_forward(assembly);
    const auto& layer = std::get<worker::MaxPool>(assembly.node(node_).layer);
    windows_ = {layer.kernel, layer.stride, layer.pad, false};
    winner_slot_ = assembly.add_buffer(y_place_.rows * y_place_.channels);
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    assembly.arena.use(winner_slot_, assembly.event);
    return PoolOp::plan_backward(assembly);
  }
  void bind(const Binding& where) override {
    PoolOp::bind(where);
    winner_ = where.mask(winner_slot_);
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", "max_pool", pass.of(x_place_.type).max_pool, bytes(),
             {x_, y_, windows_, pass.training ? winner_ : nullptr});
  }
  void backward(Pass& pass) override {
    if (!wants_gradient()) return;
    pass.run(name_, "backward_data", "max_pool_backward", pass.kernels.max_pool_backward, bytes(),
             {dy_, dx_, windows_, winner_, target_.accumulate});
  }

 private:
  Windows windows_;
  int winner_slot_ = -1;
  std::uint8_t* winner_ = nullptr;
};

class AveragePoolOp final : public PoolOp {
 public:
  using PoolOp::PoolOp;
  void plan_forward(Assembly& assembly) override {
    PoolOp::plan_forward(assembly);
    const Layer& layer = assembly.node(node_).layer;
    if (const auto* sliding = std::get_if<worker::AveragePool>(&layer)) {
      windows_ = {sliding->kernel, sliding->stride, sliding->pad, false};
    } else {
      windows_.adaptive = true;
    }
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", "average_pool", pass.of(x_place_.type).average_pool, bytes(),
             {x_, y_, windows_});
  }
  void backward(Pass& pass) override {
    if (!wants_gradient()) return;
    pass.run(name_, "backward_data", "average_pool_backward", pass.kernels.average_pool_backward,
             bytes(), {dy_, dx_, windows_, target_.accumulate});
  }

 private:
  Windows windows_;
};

}  // namespace

std::unique_ptr<Op> make_max_pool_op(int node) { return std::make_unique<MaxPoolOp>(node); }
std::unique_ptr<Op> make_average_pool_op(int node) { return std::make_unique<AveragePoolOp>(node); }

}  // namespace rackmark::worker::cuda
