// The loss of one head, and at once the gradient of its logits: both need the same exponentials.
#include <stdexcept>

#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

class LossOp final : public Op {
 public:
  explicit LossOp(int head) : head_(head) {}

  void plan_forward(Assembly& assembly) override {
    const Head& head = assembly.net.heads()[head_];
    node_ = head.node;
    weight_ = head.weight;
    kind_ = assembly.net.loss_kind();
    logits_place_ = assembly.use(node_);
    if (logits_place_.type != Type::kFloat || !logits_place_.is_dense() ||
        logits_place_.rows != assembly.batch) {
      throw std::invalid_argument("cuda: head '" + assembly.node(node_).name +
                                  "' is not a linear layer");
    }
    gradient_place_ = assembly.gradient_target(node_).place;
  }
  std::vector<int> plan_backward(Assembly&) override { return {}; }

  void bind(const Binding& where) override {
    loss_ = {kind_ == LossKind::kSoftmaxCrossEntropy ? LossForm::kSoftmax : LossForm::kSigmoid,
             static_cast<const float*>(where.address(logits_place_.slot)),
             logits_place_.rows,
             logits_place_.channels,
             where.labels,
             weight_,
             where.state,
             where.matrix(gradient_place_),
             where.row_losses + head_ * logits_place_.rows};
  }
  void forward(Pass& pass) override {
    pass.run("loss", "forward", "cross_entropy", pass.kernels.cross_entropy,
             static_cast<double>(logits_place_.bytes()), loss_);
  }
  void backward(Pass&) override {}
  int output() const override { return node_; }

 private:
  int head_, node_ = -1;
  double weight_ = 1;
  LossKind kind_ = LossKind::kSoftmaxCrossEntropy;
  Place logits_place_, gradient_place_;
  CrossEntropy loss_;
};

}  // namespace

std::unique_ptr<Op> make_loss_op(int head) { return std::make_unique<LossOp>(head); }

}  // namespace rackmark::worker::cuda
