// The training plan on a device: the contract of backend.hpp.
//
// One block of the device's memory holds everything: parameters, gradients and momentum as three
// flat float32 blocks in the order in which backward finishes them; the parameters once more in the
// stored type where that has 16 bits; running statistics; the batch; the arena of values. Forward,
// backward and update are recorded at their first run and replayed as a whole afterwards.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/plan/batch_input.hpp"
#include "worker/backend/cuda/plan/group_exchange.hpp"
#include "worker/backend/cuda/plan/operations.hpp"
#include "worker/backend/cuda/plan/plan_parts.hpp"
#include "worker/backend/cuda/plan/sent_value.hpp"

namespace rackmark::worker::cuda {

class Plan final : public TrainPlan, private PlanParts {
 public:
  // `device` is kept. Throws as Backend::compile.
  Plan(std::shared_ptr<Device> device, const Net& net, const PlanOptions& options);
  // Bytes of the device that the constructor would take at most, without a device.
  static std::int64_t predict_bytes(const Net& net, const PlanOptions& options);

  const Net& net() const override { return net_; }
  PlanFacts facts() const override;
  double forward(const Batch& batch, const ParameterNeeded& needed) override;
  void backward(const GradientReady& ready) override;
  void update(const SgdStep& step) override;
  StepOutcome step(const Batch& batch, const SgdStep& step) override;
  void finish() override { device_->wait(); }
  std::optional<std::int64_t> skipped_steps() const override;
  void evaluate(const Batch& batch) override;
  std::vector<double> logits() const override { return read_logits(at<std::byte>(regions_.arena)); }
  void write_parameter(int parameter, std::span<const float> values) override;
  std::vector<double> read_parameter(int parameter) const override;
  std::vector<double> read_gradient(int parameter) const override;
  std::vector<double> read_running(int statistic) const override;
  void write_running(int statistic, std::span<const float> values) override;
  std::span<float> gradient_block() override;
  std::span<float> parameter_block() override;
  Extent extent(int parameter) const override { return extents_.at(parameter); }
  std::string layout_key() const override;
  bool joins_groups() const override { return device_->joins_groups(); }
  std::string new_group() override { return device_->new_group(); }
  std::string join_group(const RankGroup& group) override;
  std::vector<OpTime> profile(const Batch& batch) override;

 private:
  struct Regions {  // offsets into the block, in bytes
    std::int64_t parameters = 0, gradients = 0, velocities = 0, narrow = 0, running = 0, state = 0,
                 labels = 0, row_losses = 0, pictures = 0, windows = 0, scratch = 0, workspace = 0,
                 arena = 0, total = 0;
  };
  struct PredictOnly {};
  void describe_merged(PlanFacts& facts) const;  // what convolutions do for batch norms
  Plan(PredictOnly, const Net& net, const PlanOptions& options);
  void plan();
  void place_parameters(const std::vector<int>& order);
  void place_running();
  Regions regions(std::int64_t workspace_bytes) const;
  std::int64_t most_bytes() const;  // with as much workspace as an engine may want
  void allocate();
  void bind();
  void write_state();

  template <class T>
  T* at(std::int64_t offset) const {
    return reinterpret_cast<T*>(memory_.get() + offset);
  }
  StepState* state() const { return at<StepState>(regions_.state); }
  Pass make_pass(Stopwatch* stopwatch = nullptr, bool training = true) {
    return PlanParts::make_pass(workspace_, training, stopwatch);
  }
  void replay(std::unique_ptr<Recording>& recording, const std::function<void()>& work);

  void run_forward();  // in training
  void write_pass();
  void write_scalars(const SgdStep& step);
  void bring_parameters(const ParameterNeeded& needed);
  void give_forward(Pass& pass);
  void give_backward(Pass& pass);
  void give_backward_with_group();
  void give_unscale(Pass& pass);
  void give_update(Pass& pass, bool scaled);  // whether gradients have the loss scale still
  void fetch_loss();
  double loss();
  void narrow_parameters();
  void apply_faults();
  void bring_gradients_to_host(const GradientReady& ready);
  std::vector<double> read(std::int64_t region, int parameter) const;

  PlanOptions options_;
  Operations operations_;
  std::vector<std::vector<int>> finished_by_op_;  // parameters, by op
  std::vector<Extent> extents_;                   // by parameter
  std::vector<int> order_;                        // parameters in the order of the block
  std::vector<std::int64_t> running_offsets_;     // floats, by statistic
  std::int64_t block_floats_ = 0, running_floats_ = 0;
  Regions regions_;
  BatchInput input_;  // what is on its way goes into the plan's memory
  std::shared_ptr<std::byte> host_loss_, host_gradients_, host_parameters_;
  std::unique_ptr<Mark> loss_known_;
  std::unique_ptr<GroupExchange> group_;  // null: alone
  std::unique_ptr<Recording> forward_, backward_, update_;
  std::unique_ptr<Recording> rest_;  // of step(): backward, where it is recorded, and update
  struct Scalars {                   // as StepState has them
    float learning_rate, momentum, weight_decay;
  };
  SentValue<Scalars> scalars_;
  SentValue<std::int64_t> pass_number_;
  bool gradients_scaled_ = false;  // in the block, with StepState::gradient_scale
  bool can_go_back_ = false;       // a training forward pass is the last one
  std::int64_t passes_ = 0;        // forward passes in training
  void* workspace_ = nullptr;
};

}  // namespace rackmark::worker::cuda
