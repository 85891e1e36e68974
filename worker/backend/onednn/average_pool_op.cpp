// Average pool, and adaptive average pool where all windows are equal: oneDNN's.
#include <algorithm>

#include "worker/backend/onednn/unary_op.hpp"

namespace rackmark::worker::onednn {
namespace {

class AveragePoolOp final : public UnaryOp {
 public:
  using UnaryOp::UnaryOp;

  void plan_forward(Assembly& assembly) override {
    UnaryOp::plan_forward(assembly);
    shape_.kind = PoolingKind::kAverageWithPadding;
    shape_.src = assembly.values[input_].desc;
    shape_.dst = assembly.values[node_].desc;
    const Layer& layer = assembly.node(node_).layer;
    if (const auto* average = std::get_if<AveragePool>(&layer)) {
      set_windows(*average);
    } else {
      const int out = std::get<AdaptiveAveragePool>(layer).out;
      shape_.kernel = shape_.strides = {in_.height / out, in_.width / out};
      shape_.pad_before = shape_.pad_after = {0, 0};
    }
    plan_call(assembly, forward_, &make_pooling_forward, {DNNL_ARG_SRC, DNNL_ARG_DST});
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    auto parameters = UnaryOp::plan_backward(assembly);
    if (!assembly.values[input_].needs_gradient) return parameters;
    plan_call(assembly, backward_, &make_pooling_backward, {DNNL_ARG_DIFF_SRC, DNNL_ARG_DIFF_DST});
    return parameters;
  }

  void bind(const Binding& where) override {
    UnaryOp::bind(where);
    forward_.bind(where, {{DNNL_ARG_SRC, where.memory(shape_.src, x_)},
                          {DNNL_ARG_DST, where.memory(shape_.dst, y_)}});
    if (dx_ == nullptr) return;
    backward_.bind(where, {{DNNL_ARG_DIFF_DST, where.memory(shape_.dst, dy_)},
                           {DNNL_ARG_DIFF_SRC, where.memory(shape_.src, dx_)}});
  }

 private:
  std::string implementation(const Pass&) const override { return forward_.made().implementation; }
  void compute(Pass& pass) override { forward_(pass); }
  void propagate(Pass& pass) override { backward_(pass); }

  struct Arguments {
    int src, dst;
  };
  void plan_call(Assembly& assembly, Call& call,
                 Made (*make)(const dnnl::engine&, const PoolingShape&), Arguments arguments) {
    Made made = make_in_stored_type(assembly, name_, [&](DataType type) {
      PoolingShape shape = shape_;
      shape.src = with_type(shape.src, type);
      shape.dst = with_type(shape.dst, type);
      return make(assembly.engine, shape);
    });
    const std::vector<StoredOperand> operands{{arguments.src, made.src, shape_.src},
                                              {arguments.dst, made.dst, shape_.dst}};
    call.plan(assembly, std::move(made), operands);
  }

  // The last window may hang over the end by another amount than the first.
  void set_windows(const AveragePool& pool) {
    const auto after = [&](int extent, int windows) {
      return std::max(0, (windows - 1) * pool.stride + pool.kernel - extent - pool.pad);
    };
    shape_.kernel = {pool.kernel, pool.kernel};
    shape_.strides = {pool.stride, pool.stride};
    shape_.pad_before = {pool.pad, pool.pad};
    shape_.pad_after = {after(in_.height, out_.height), after(in_.width, out_.width)};
  }

  PoolingShape shape_;
  Call forward_, backward_;
};

}  // namespace

std::unique_ptr<Op> make_average_pool_op(int node) { return std::make_unique<AveragePoolOp>(node); }

}  // namespace rackmark::worker::onednn
