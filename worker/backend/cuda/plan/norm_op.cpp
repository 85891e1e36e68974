// Batch norm of a group (graph.hpp): relu?(norm(x) + residual?), the residual a plain value or a
// second batch norm. Forward reads x twice (statistics, result); backward reads x and dy twice
// (sums, result). What ReLU let through is kept as one bit an element. A convolution that alone
// reads the result may do parts of this instead (NormInConvolution).
#include "worker/backend/cuda/plan/norm.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

class NormOp final : public Op {
 public:
  NormOp(const NormGroup& group, std::shared_ptr<NormInConvolution> shared)
      : group_(group), shared_(std::move(shared)) {}

  void plan_forward(Assembly& assembly) override {
    norm_.plan_forward(assembly, group_.norm);
    if (has_second()) second_.plan_forward(assembly, group_.second_norm);
    if (group_.residual >= 0) residual_place_ = assembly.use(group_.residual);
    y_place_ = assembly.define(group_.output);
    if (shared_) {
      norm_.plan_sharing(assembly, shared_);
      assembly.values[group_.output].norm = shared_;
    }
    if (group_.relu) {
      mask_slot_ = assembly.add_buffer(mask_bytes(y_place_.rows, y_place_.channels));
    }
    const int blocks = sum_blocks(y_place_.rows, norm_.channels());
    assembly.need_scratch(std::int64_t{blocks} * sums() * norm_.channels() * 4);
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    dy_place_ = assembly.take_gradient(group_.output);
    if (mask_slot_ >= 0) assembly.arena.use(mask_slot_, assembly.event);
    norm_.plan_backward(assembly);
    if (has_second()) second_.plan_backward(assembly);
    // g, the gradient that ReLU lets through, replaces dy where more than one kernel reads it.
    plan_residual(assembly);
    input_ = plan_input_gradient(assembly, norm_, !has_second());
    if (has_second()) second_input_ = plan_input_gradient(assembly, second_, true);
    std::vector<int> finished{norm_.weight(), norm_.bias()};
    if (has_second()) finished.insert(finished.end(), {second_.weight(), second_.bias()});
    return finished;
  }

  void bind(const Binding& where) override {
    norm_.bind(where);
    if (has_second()) second_.bind(where);
    residual_ = where.matrix(residual_place_);
    y_ = where.matrix(y_place_);
    dy_ = where.matrix(dy_place_);
    dx_ = {where.matrix(input_.place), where.matrix(input_.sum)};
    second_dx_ = {where.matrix(second_input_.place), where.matrix(second_input_.sum)};
    residual_gradient_ = where.matrix(residual_target_.place);
    mask_ = where.mask(mask_slot_);
  }

  void forward(Pass& pass) override {
    norm_.statistics(pass);
    if (has_second()) second_.statistics(pass);
    if (norm_.applied_by_reader()) return;
    NormApply apply{.x = norm_.x(),
                    .y = y_,
                    .scale = norm_.scale(),
                    .shift = norm_.shift(),
                    .residual = residual_,
                    .relu = group_.relu,
                    .mask = pass.training && !norm_.summed_by_reader() ? mask_ : nullptr};
    if (has_second()) {
      apply.residual = second_.x();
      apply.residual_scale = second_.scale();
      apply.residual_shift = second_.shift();
    }
    const double reads = apply.residual.data == nullptr ? 1 : 2;
    pass.run(norm_.name(), "forward", "norm_apply", pass.kernels.norm_apply,
             (reads + 1) * norm_.bytes(), apply);
  }

  void backward(Pass& pass) override {
    if (!norm_.summed_by_reader()) add_up(pass);
    norm_.backward_statistics(pass, sums(), 1);
    if (has_second()) second_.backward_statistics(pass, sums(), 2);
    norm_.ready(pass);
    if (has_second()) second_.ready(pass);
    const bool masked = writes_masked() || norm_.summed_by_reader();
    apply(pass, norm_, masked ? nullptr : mask_, dx_);
    if (has_second()) apply(pass, second_, nullptr, second_dx_);
    if (residual_gradient_.data != nullptr && residual_gradient_.data != dy_.data) {
      add(pass, dy_, residual_gradient_, residual_target_.accumulate);
    }
  }
  int output() const override { return group_.output; }

 private:
  struct BoundGradient {
    Matrix place, sum;
  };
  void add_up(Pass& pass) {
    NormBackwardSums sum{
        .dy = dy_, .x = norm_.x(), .mask = mask_, .mean = norm_.mean(), .partial = norm_.partial()};
    if (has_second()) {
      sum.residual_x = second_.x();
      sum.residual_mean = second_.mean();
    }
    if (writes_masked()) sum.masked = dy_;
    pass.run(norm_.name(), "backward_weights", "norm_backward_sums",
             pass.kernels.norm_backward_sums, (sums() + writes_masked()) * norm_.bytes(), sum);
  }
  void apply(Pass& pass, Norm& norm, const std::uint8_t* mask, const BoundGradient& dx) {
    norm.apply_backward(pass, dy_, mask, dx.place);
    if (dx.sum.data != nullptr) add(pass, dx.place, dx.sum, true);
  }
  void add(Pass& pass, const Matrix& from, const Matrix& to, bool accumulate) {
    pass.run(norm_.name(), "backward_data", "copy", pass.kernels.copy, 3 * norm_.bytes(),
             {from, to, 1, accumulate});
  }
  bool has_second() const { return group_.second_norm >= 0; }
  int sums() const { return has_second() ? 3 : 2; }
  bool writes_masked() const {
    return group_.relu && (has_second() || residual_target_.place.exists());
  }

  // dy itself, masked, becomes the residual's gradient where that is possible.
  void plan_residual(Assembly& assembly) {
    if (group_.residual < 0 || !assembly.values[group_.residual].needs_gradient) return;
    if (assembly.hand_over(dy_place_, group_.residual)) {
      residual_target_.place = dy_place_;
    } else {
      residual_target_ = assembly.gradient_target(group_.residual);
    }
  }

  // Where the gradient of a batch norm's input is written: over dy where nobody else reads that and
  // the convolution before can read it there; else into a buffer of its own, from which it is added
  // to what other readers of the input have written.
  struct InputGradient {
    Place place, sum;
  };
  InputGradient plan_input_gradient(Assembly& assembly, const Norm& norm, bool last_reader) {
    const auto own = [&] {
      return assembly.add_place(dy_place_.rows, dy_place_.channels, dy_place_.type);
    };
    const bool wanted = assembly.values[norm.input()].needs_gradient;
    const bool dy_is_free = last_reader && !residual_target_.place.exists();
    if (!wanted) return {dy_is_free ? dy_place_ : own(), {}};
    if (dy_is_free && dy_place_.is_dense() && assembly.hand_over(dy_place_, norm.input())) {
      return {dy_place_, {}};
    }
    const GradientTarget target = assembly.gradient_target(norm.input());
    if (target.accumulate) return {own(), target.place};
    return {target.place, {}};
  }

  NormGroup group_;
  std::shared_ptr<NormInConvolution> shared_;
  Norm norm_, second_;
  Place residual_place_, y_place_, dy_place_;
  InputGradient input_, second_input_;
  GradientTarget residual_target_;
  int mask_slot_ = -1;
  Matrix residual_, y_, dy_, residual_gradient_;
  BoundGradient dx_, second_dx_;
  std::uint8_t* mask_ = nullptr;
};

}  // namespace

std::unique_ptr<Op> make_norm_op(const NormGroup& group,
                                 std::shared_ptr<NormInConvolution> shared) {
  return std::make_unique<NormOp>(group, std::move(shared));
}

}  // namespace rackmark::worker::cuda
