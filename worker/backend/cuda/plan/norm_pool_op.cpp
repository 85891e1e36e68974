// Batch norm, ReLU and the max pool that alone reads it: the normed picture and its gradient are
// never in memory.
#include "worker/backend/cuda/plan/norm.hpp"

namespace rackmark::worker::cuda {
namespace {

class NormPoolOp final : public Op {
 public:
  NormPoolOp(int norm, int pool) : norm_node_(norm), pool_(pool) {}

  void plan_forward(Assembly& assembly) override {
    norm_.plan_forward(assembly, norm_node_);
    const NodeInfo& pool = assembly.node(pool_);
    const auto& layer = std::get<worker::MaxPool>(pool.layer);
    windows_ = {layer.kernel, layer.stride, layer.pad, false};
    in_ = assembly.node(norm_node_).shape;
    out_ = pool.shape;
    images_ = assembly.batch;
    y_place_ = assembly.define(pool_);
    winner_slot_ = assembly.add_buffer(y_place_.rows * y_place_.channels);
    const int blocks = sum_blocks(norm_.x_place().rows, norm_.channels());
    assembly.need_scratch(std::int64_t{blocks} * 2 * norm_.channels() * 4);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = assembly.take_gradient(pool_);
    assembly.arena.use(winner_slot_, assembly.event);
    norm_.plan_backward(assembly);
    target_ = assembly.gradient_target(norm_.input());
    dx_place_ = target_.place;
    if (target_.accumulate) {
      const Place& x = norm_.x_place();
      dx_place_ = assembly.add_place(x.rows, x.channels, x.type);
    }
    return {norm_.weight(), norm_.bias()};
  }

  void bind(const Binding& where) override {
    norm_.bind(where);
    x_ = picture(norm_.x(), in_);
    y_ = picture(where.matrix(y_place_), out_);
    dy_ = picture(where.matrix(dy_place_), out_);
    dx_ = picture(where.matrix(dx_place_), in_);
    sum_ = where.matrix(target_.place);
    winner_ = where.mask(winner_slot_);
  }

  void forward(Pass& pass) override {
    norm_.statistics(pass);
    pass.run(norm_.name(), "forward", "norm_max_pool", pass.kernels.norm_max_pool,
             norm_.bytes() + bytes(y_place_),
             {x_, y_, windows_, norm_.scale(), norm_.shift(), pass.training ? winner_ : nullptr});
  }

  void backward(Pass& pass) override {
    const double reads = norm_.bytes() + bytes(dy_place_);
    pass.run(norm_.name(), "backward_weights", "norm_max_pool_backward_sums",
             pass.kernels.norm_max_pool_backward_sums, reads,
             {dy_, x_, windows_, winner_, norm_.mean(), norm_.partial()});
    norm_.backward_statistics(pass, 2, 1);
    norm_.ready(pass);
    if (dx_.pixels.data == nullptr) return;
    pass.run(norm_.name(), "backward_data", "norm_max_pool_backward_apply",
             pass.kernels.norm_max_pool_backward_apply, reads + norm_.bytes(),
             {dy_, x_, dx_, windows_, winner_, norm_.mean(), norm_.a(), norm_.b(), norm_.c()});
    if (!target_.accumulate) return;
    pass.run(norm_.name(), "backward_data", "copy", pass.kernels.copy, 3 * norm_.bytes(),
             {dx_.pixels, sum_, 1, true});
  }
  int output() const override { return pool_; }

 private:
  Picture picture(const Matrix& pixels, const Shape& shape) const {
    return {pixels, images_, shape.height, shape.width};
  }
  static double bytes(const Place& place) { return static_cast<double>(place.bytes()); }

  int norm_node_, pool_, images_ = 0, winner_slot_ = -1;
  Norm norm_;
  Windows windows_;
  Shape in_, out_;
  Place y_place_, dy_place_, dx_place_;
  GradientTarget target_;
  Picture x_, y_, dy_, dx_;
  Matrix sum_;
  std::uint8_t* winner_ = nullptr;
};

}  // namespace

std::unique_ptr<Op> make_norm_pool_op(int norm, int pool) {
  return std::make_unique<NormPoolOp>(norm, pool);
}

}  // namespace rackmark::worker::cuda
