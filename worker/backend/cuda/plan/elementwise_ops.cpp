// Operations that look at one element, one row or one buffer at a time: ReLU and Add where they are
// not part of another operation, concat, flatten, dropout, response norm.
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

// One input, one output of the same shape.
class ElementwiseOp : public Op {
 public:
  explicit ElementwiseOp(int node) : node_(node) {}
  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    x_place_ = assembly.use(input_);
    y_place_ = define_like_input(assembly);
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = assembly.take_gradient(node_);
    target_ = assembly.gradient_target(input_);
    return {};
  }
  void bind(const Binding& where) override {
    x_ = where.matrix(x_place_);
    y_ = where.matrix(y_place_);
    dy_ = where.matrix(dy_place_);
    dx_ = where.matrix(target_.place);
  }
  int output() const override { return node_; }

 protected:
  double bytes(double times) const { return times * static_cast<double>(x_place_.bytes()); }
  bool wants_gradient() const { return target_.place.exists(); }

  int node_, input_ = -1;
  std::string name_;
  Place x_place_, y_place_, dy_place_;
  GradientTarget target_;
  Matrix x_, y_, dy_, dx_;

 private:
  Place define_like_input(Assembly& assembly) {
    const Value& input = assembly.values[input_];
    if (!input.is_flat) return assembly.define(node_);
    const Place place = assembly.define_flat(node_, input.place.type);
    assembly.values[node_].order = input.order;
    return place;
  }
};

class ReluOp final : public ElementwiseOp {
 public:
  using ElementwiseOp::ElementwiseOp;
  void plan_forward(Assembly& assembly) override {
    ElementwiseOp::plan_forward(assembly);
    mask_slot_ = assembly.add_buffer(mask_bytes(y_place_.rows, y_place_.channels));
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    assembly.arena.use(mask_slot_, assembly.event);
    return ElementwiseOp::plan_backward(assembly);
  }
  void bind(const Binding& where) override {
    ElementwiseOp::bind(where);
    mask_ = where.mask(mask_slot_);
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", "rectify", pass.kernels.rectify, bytes(2),
             {x_, y_, pass.training ? mask_ : nullptr});
  }
  void backward(Pass& pass) override {
    if (!wants_gradient()) return;
    pass.run(name_, "backward_data", "rectify_backward", pass.kernels.rectify_backward, bytes(2),
             {dy_, dx_, mask_, target_.accumulate});
  }

 private:
  int mask_slot_ = -1;
  std::uint8_t* mask_ = nullptr;
};

class DropoutOp final : public ElementwiseOp {
 public:
  DropoutOp(int node, bool active, std::int64_t seed)
      : ElementwiseOp(node), active_(active), seed_(splitmix64(splitmix64(seed) + node)) {}
  void plan_forward(Assembly& assembly) override {
    ElementwiseOp::plan_forward(assembly);
    probability_ = std::get<worker::Dropout>(assembly.node(node_).layer).probability;
  }
  void bind(const Binding& where) override {
    ElementwiseOp::bind(where);
    pass_number_ = &where.state->pass;
  }
  void forward(Pass& pass) override {
    if (active_ && pass.training) return mask(pass, "forward", x_, y_, false);
    pass.run(name_, "forward", "copy", pass.kernels.copy, bytes(2), {x_, y_});
  }
  void backward(Pass& pass) override {
    if (!wants_gradient()) return;
    if (active_) return mask(pass, "backward_data", dy_, dx_, target_.accumulate);
    pass.run(name_, "backward_data", "copy", pass.kernels.copy, bytes(2),
             {dy_, dx_, 1, target_.accumulate});
  }

 private:
  using DropoutArguments = cuda::Dropout;
  void mask(Pass& pass, const char* name, const Matrix& from, const Matrix& to, bool accumulate) {
    pass.run(name_, name, "dropout", pass.kernels.dropout, bytes(2),
             DropoutArguments{from, to, probability_, seed_, pass_number_, accumulate});
  }

  bool active_;
  std::uint64_t seed_;
  double probability_ = 0;
  const std::int64_t* pass_number_ = nullptr;
};

class ResponseNormOp final : public ElementwiseOp {
 public:
  using ElementwiseOp::ElementwiseOp;
  void plan_forward(Assembly& assembly) override {
    ElementwiseOp::plan_forward(assembly);
    layer_ = std::get<LocalResponseNorm>(assembly.node(node_).layer);
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    assembly.use(x_place_);
    return ElementwiseOp::plan_backward(assembly);
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", "response_norm", pass.kernels.response_norm, bytes(2),
             {x_, y_, layer_.size, layer_.alpha, layer_.beta, layer_.k});
  }
  void backward(Pass& pass) override {
    if (!wants_gradient()) return;
    pass.run(name_, "backward_data", "response_norm_backward", pass.kernels.response_norm_backward,
             bytes(3),
             {dy_, x_, dx_, layer_.size, layer_.alpha, layer_.beta, layer_.k, target_.accumulate});
  }

 private:
  LocalResponseNorm layer_;
};

class AddOp final : public Op {
 public:
  AddOp(int node, bool negate_residual_gradient)
      : node_(node), factor_(negate_residual_gradient ? -1.0F : 1.0F) {}
  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    inputs_ = info.inputs;
    for (const int input : inputs_) x_places_.push_back(assembly.use(input));
    y_place_ = assembly.define(node_);
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = assembly.take_gradient(node_);
    // The residual's part is copied first; the main branch may then have dy itself.
    targets_[1] = assembly.gradient_target(inputs_[1]);
    if (!assembly.hand_over(dy_place_, inputs_[0])) {
      targets_[0] = assembly.gradient_target(inputs_[0]);
    }
    return {};
  }
  void bind(const Binding& where) override {
    sum_ = {where.matrix(x_places_[0]), where.matrix(x_places_[1]), where.matrix(y_place_)};
    dy_ = where.matrix(dy_place_);
    for (int i = 0; i < 2; ++i) dx_[i] = where.matrix(targets_[i].place);
  }
  void forward(Pass& pass) override {
    pass.run(name_, "forward", "sum", pass.kernels.sum, 3.0 * bytes(), sum_);
  }
  void backward(Pass& pass) override {
    for (const int i : {1, 0}) {
      if (dx_[i].data == nullptr) continue;
      pass.run(name_, "backward_data", "copy", pass.kernels.copy, 2.0 * bytes(),
               {dy_, dx_[i], i == 1 ? factor_ : 1.0F, targets_[i].accumulate});
    }
  }
  int output() const override { return node_; }

 private:
  double bytes() const { return static_cast<double>(y_place_.bytes()); }

  int node_;
  float factor_;
  std::string name_;
  std::vector<int> inputs_;
  std::vector<Place> x_places_;
  Place y_place_, dy_place_;
  GradientTarget targets_[2];
  Sum sum_;
  Matrix dy_, dx_[2];
};

// Parts that only the concat reads lie in its value already (Plan::place_in_concats); the others
// are copied. A part that nobody has given a gradient yet takes its part of the concat's as its
// own, where libraries can load that.
class ConcatOp final : public Op {
 public:
  explicit ConcatOp(int node) : node_(node) {}
  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    if (!assembly.values[node_].place.exists()) assembly.define(node_);
    const Place whole = assembly.use(node_);
    int first = 0;
    for (const int input : info.inputs) {
      const Place from = assembly.use(input);
      parts_.push_back({input, from, part_of(whole, first, from.channels), {}, {}, false});
      first += from.channels;
    }
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    const Place whole = assembly.take_gradient(node_);
    int first = 0;
    for (Part& part : parts_) {
      const Place gradient = part_of(whole, first, part.from.channels);
      first += part.from.channels;
      if (assembly.hand_over(gradient, part.node)) continue;
      const GradientTarget target = assembly.gradient_target(part.node);
      part.gradient_from = gradient;
      part.gradient_to = target.place;
      part.accumulate = target.accumulate;
    }
    return {};
  }
  void bind(const Binding& where) override {
    for (const Part& part : parts_) {
      const Matrix from = where.matrix(part.from), to = where.matrix(part.to);
      if (from.data != to.data) copies_.push_back({from, to});
      if (!part.gradient_to.exists()) continue;
      gradient_copies_.push_back(
          {where.matrix(part.gradient_from), where.matrix(part.gradient_to), 1, part.accumulate});
    }
  }
  void forward(Pass& pass) override { run(pass, "forward", copies_); }
  void backward(Pass& pass) override { run(pass, "backward_data", gradient_copies_); }
  int output() const override { return node_; }

 private:
  struct Part {
    int node;
    Place from, to, gradient_from, gradient_to;
    bool accumulate;
  };
  static Place part_of(Place whole, int first, int channels) {
    whole.offset += first;
    whole.channels = channels;
    return whole;
  }
  void run(Pass& pass, const char* name, const std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
      const double values = static_cast<double>(copy.from.rows) * copy.from.channels;
      const Type type = parts_.front().from.type;
      pass.run(name_, name, "copy", pass.of(type).copy,
               2 * values * static_cast<double>(width(type)), copy);
    }
  }

  int node_;
  std::string name_;
  std::vector<Part> parts_;
  std::vector<Copy> copies_, gradient_copies_;
};

// The same memory, seen as one row a picture. Copied only where the picture lies inside a concat.
class FlattenOp final : public Op {
 public:
  explicit FlattenOp(int node) : node_(node) {}
  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    input_ = info.inputs[0];
    const Value& input = assembly.values[input_];
    const Shape order = input.order;
    input_place_ = from_ = assembly.use(input_);
    if (!from_.is_dense())
      from_ = dense_ = assembly.add_place(from_.rows, from_.channels, from_.type);
    assembly.define_as(node_, rows_joined(from_, assembly.batch), true, order);
  }
  std::vector<int> plan_backward(Assembly& assembly) override {
    const Place dy = assembly.take_gradient(node_);
    gradient_ = dy;  // of a flat value: dense
    gradient_.rows = from_.rows;
    gradient_.channels = from_.channels;
    gradient_.stride = from_.channels;
    if (!assembly.hand_over(gradient_, input_)) target_ = assembly.gradient_target(input_);
    return {};
  }
  void bind(const Binding& where) override {
    x_ = where.matrix(input_place_);
    copied_ = where.matrix(dense_);
    dy_ = where.matrix(gradient_);
    dx_ = where.matrix(target_.place);
  }
  void forward(Pass& pass) override {
    if (copied_.data == nullptr) return;
    pass.run(name_, "forward", "copy", pass.kernels.copy, bytes(), {x_, copied_});
  }
  void backward(Pass& pass) override {
    if (dx_.data == nullptr) return;
    pass.run(name_, "backward_data", "copy", pass.kernels.copy, bytes(),
             {dy_, dx_, 1, target_.accumulate});
  }
  int output() const override { return node_; }

 private:
  static Place rows_joined(Place picture, int batch) {
    picture.channels = static_cast<int>(picture.rows / batch * picture.channels);
    picture.stride = picture.channels;
    picture.rows = batch;
    return picture;
  }
  double bytes() const { return 2.0 * static_cast<double>(from_.bytes()); }

  int node_, input_ = -1;
  std::string name_;
  Place input_place_, from_, dense_, gradient_;
  GradientTarget target_;
  Matrix x_, copied_, dy_, dx_;
};

}  // namespace

std::unique_ptr<Op> make_relu_op(int node) { return std::make_unique<ReluOp>(node); }
std::unique_ptr<Op> make_add_op(int node, bool negate_residual_gradient) {
  return std::make_unique<AddOp>(node, negate_residual_gradient);
}
std::unique_ptr<Op> make_concat_op(int node) { return std::make_unique<ConcatOp>(node); }
std::unique_ptr<Op> make_flatten_op(int node) { return std::make_unique<FlattenOp>(node); }
std::unique_ptr<Op> make_dropout_op(int node, bool active, std::int64_t seed) {
  return std::make_unique<DropoutOp>(node, active, seed);
}
std::unique_ptr<Op> make_response_norm_op(int node) {
  return std::make_unique<ResponseNormOp>(node);
}

}  // namespace rackmark::worker::cuda
