#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {
namespace {

// weight x mean over the batch of softmax (or sigmoid) cross entropy; exponentials and sums in
// double, from the logits as they are stored. The gradient is made together with the loss and kept
// until backward.
class LossOp final : public Op {
 public:
  LossOp(int node, double weight, LossKind kind) : node_(node), weight_(weight), kind_(kind) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    logits_slot_ = assembly.use(node_);
    name_ = assembly.node(node_).name;
    batch_ = assembly.batch;
    classes_ = assembly.node(node_).shape.channels;
    gradient_slot_ = assembly.add_gradient(assembly.values[node_].desc);
    logits_storage_ =
        type_of(assembly.values[node_].desc) == DataType::bf16 ? Storage::kBfloat : Storage::kFloat;
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    assembly.arena.use(gradient_slot_, assembly.event);
    assembly.values[node_].gradients.push_back(gradient_slot_);
    return {};
  }

  void bind(const Binding& where) override {
    logits_ = Cells(where.address(logits_slot_), logits_storage_);
    gradient_ = where.at(gradient_slot_);
  }

  void forward(Pass& pass) override {
    if (!pass.training) return;
    double sum = 0;
    pass.run(name_, "forward", "loss", 0, 8.0 * batch_ * classes_, [&] {
      std::vector<float> x(static_cast<std::size_t>(classes_)), g(x);
      for (int n = 0; n < batch_; ++n) {
        const std::int64_t row = std::int64_t{n} * classes_;
        for (int c = 0; c < classes_; ++c) x[c] = logits_.value(row + c);
        sum += kind_ == LossKind::kSoftmaxCrossEntropy
                   ? softmax(x.data(), g.data(), pass.labels[n])
                   : sigmoid(x.data(), g.data(), pass.labels[n]);
        pass.kernels.narrow(g.data(), gradient_ + row, classes_);
      }
    });
    pass.loss += weight_ * sum / batch_;
  }

  void backward(Pass&) override {}

 private:
  double softmax(const float* x, float* gradient, std::int32_t label) const {
    if (label < 0 || label >= classes_) bad_label(label, classes_ - 1);
    const double top = *std::max_element(x, x + classes_);
    double sum = 0;
    for (int c = 0; c < classes_; ++c) sum += std::exp(x[c] - top);
    for (int c = 0; c < classes_; ++c) {
      const double p = std::exp(x[c] - top) / sum;
      gradient[c] = static_cast<float>(weight_ / batch_ * (p - (c == label ? 1.0 : 0.0)));
    }
    return std::log(sum) - (x[label] - top);
  }

  double sigmoid(const float* x, float* gradient, std::int32_t label) const {
    if (label < 0 || label > 1) bad_label(label, 1);
    const double z = x[0], p = 1 / (1 + std::exp(-z));
    gradient[0] = static_cast<float>(weight_ / batch_ * (p - label));
    return std::max(z, 0.0) - z * label + std::log1p(std::exp(-std::abs(z)));
  }

  [[noreturn]] static void bad_label(std::int32_t label, int most) {
    throw std::invalid_argument("onednn: label " + std::to_string(label) + " is not in 0 to " +
                                std::to_string(most));
  }

  int node_;
  double weight_;
  LossKind kind_;
  std::string name_;
  int batch_ = 0, classes_ = 0;
  int logits_slot_ = -1, gradient_slot_ = -1;
  Storage logits_storage_ = Storage::kFloat;
  Cells logits_, gradient_;
};

}  // namespace

std::unique_ptr<Op> make_loss_op(int node, double weight, LossKind kind) {
  return std::make_unique<LossOp>(node, weight, kind);
}

}  // namespace rackmark::worker::onednn
