#include <algorithm>

#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {
namespace {

// Max pool, average pool, and adaptive average pool where all windows are equal.
class PoolingOp final : public Op {
 public:
  explicit PoolingOp(int node) : node_(node) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    src_slot_ = assembly.use(input_);
    assembly.define(node_, assembly.picture(info.shape));
    dst_slot_ = assembly.values[node_].slot;
    shape_ = shape_of(assembly, info);
    forward_.made = make_pooling_forward(assembly.engine, shape_);
    assembly.need_scratch(forward_.made);
    if (forward_.made.workspace.get_size() > 0)
      workspace_slot_ = assembly.add_buffer(padded_bytes(forward_.made.workspace));
    bytes_ = static_cast<double>(padded_bytes(shape_.src) + padded_bytes(shape_.dst));
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    if (workspace_slot_ >= 0) assembly.arena.use(workspace_slot_, assembly.event);
    Value& input = assembly.values[input_];
    if (!input.needs_gradient) return {};
    backward_.made = make_pooling_backward(assembly.engine, shape_);
    assembly.need_scratch(backward_.made);
    src_gradient_slot_ = assembly.add_buffer(padded_bytes(shape_.src));
    input.gradients.push_back(src_gradient_slot_);
    return {};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    std::unordered_map<int, dnnl::memory> forward{
        {DNNL_ARG_SRC, where.memory(shape_.src, where.at(src_slot_))},
        {DNNL_ARG_DST, where.memory(shape_.dst, where.at(dst_slot_))}};
    std::unordered_map<int, dnnl::memory> backward;
    if (workspace_slot_ >= 0) {
      const auto workspace = where.memory(forward_.made.workspace, where.at(workspace_slot_));
      forward.insert({DNNL_ARG_WORKSPACE, workspace});
      backward.insert({DNNL_ARG_WORKSPACE, workspace});
    }
    forward_.bind(where, std::move(forward));
    if (src_gradient_slot_ < 0) return;
    backward.insert({DNNL_ARG_DIFF_DST, where.memory(shape_.dst, where.at(gradient_slot_))});
    backward.insert({DNNL_ARG_DIFF_SRC, where.memory(shape_.src, where.at(src_gradient_slot_))});
    backward_.bind(where, std::move(backward));
  }

  void forward(Pass& pass) override {
    pass.run(name_, "forward", forward_.made.implementation, 0, bytes_, [&] { forward_(pass); });
  }

  void backward(Pass& pass) override {
    if (src_gradient_slot_ < 0) return;
    sum_.run(pass, name_);
    pass.run(name_, "backward_data", backward_.made.implementation, 0, bytes_,
             [&] { backward_(pass); });
  }

 private:
  PoolingShape shape_of(const Assembly& assembly, const NodeInfo& info) const {
    const Shape& in = assembly.node(input_).shape;
    PoolingShape shape;
    shape.src = assembly.values[input_].desc;
    shape.dst = assembly.values[node_].desc;
    if (const auto* max = std::get_if<MaxPool>(&info.layer)) {
      set_windows(shape, in, info.shape, max->kernel, max->stride, max->pad);
    } else if (const auto* average = std::get_if<AveragePool>(&info.layer)) {
      shape.kind = PoolingKind::kAverageWithPadding;
      set_windows(shape, in, info.shape, average->kernel, average->stride, average->pad);
    } else {
      const int out = std::get<AdaptiveAveragePool>(info.layer).out;
      shape.kind = PoolingKind::kAverageWithPadding;
      shape.kernel = shape.strides = {in.height / out, in.width / out};
      shape.pad_before = shape.pad_after = {0, 0};
    }
    return shape;
  }

  // In ceil mode the last window hangs over the end: more padding after than before.
  static void set_windows(PoolingShape& shape, const Shape& in, const Shape& out, int kernel,
                          int stride, int pad) {
    const auto after = [&](int extent, int windows) {
      return std::max(0, (windows - 1) * stride + kernel - extent - pad);
    };
    shape.kernel = {kernel, kernel};
    shape.strides = {stride, stride};
    shape.pad_before = {pad, pad};
    shape.pad_after = {after(in.height, out.height), after(in.width, out.width)};
  }

  int node_, input_ = -1;
  std::string name_;
  PoolingShape shape_;
  int src_slot_ = -1, dst_slot_ = -1, workspace_slot_ = -1;
  int gradient_slot_ = -1, src_gradient_slot_ = -1;
  Call forward_, backward_;
  GradientSum sum_;
  double bytes_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_pooling_op(int node) { return std::make_unique<PoolingOp>(node); }

}  // namespace rackmark::worker::onednn
