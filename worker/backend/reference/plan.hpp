// A net compiled for the plain backend. One op a node, in build order; one buffer a node.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/reference/op.hpp"

namespace rackmark::worker::reference {

template <class T>
class ReferencePlan final : public TrainPlan {
 public:
  // threads in options is resolved (at least 1). Throws std::invalid_argument for a net that cannot
  // be trained with this batch.
  ReferencePlan(const Net& net, const PlanOptions& options);

  const Net& net() const override { return net_; }
  PlanFacts facts() const override;

  double forward(const Batch& batch, const ParameterNeeded& needed) override;
  void backward(const GradientReady& ready) override;
  void update(const SgdStep& step) override;
  void evaluate(const Batch& batch) override;
  std::vector<double> logits() const override;

  void write_parameter(int parameter, std::span<const float> values) override;
  std::vector<double> read_parameter(int parameter) const override;
  std::vector<double> read_gradient(int parameter) const override;
  std::vector<double> read_running(int statistic) const override;
  void write_running(int statistic, std::span<const float> values) override;

  std::span<float> gradient_block() override;
  std::span<float> parameter_block() override;
  Extent extent(int parameter) const override;
  std::string layout_key() const override;
  std::vector<OpTime> profile(const Batch& batch) override;

  // All memory that such a plan will hold.
  static std::int64_t predicted_bytes(const Net& net, const PlanOptions& options);

 private:
  using Timed = std::function<void(int node, const char* pass, const std::function<void()>& work)>;

  void lay_out_parameters();
  void make_ops();
  bool rounds() const { return digits_ > 0; }
  void round(std::vector<T>& values) const;  // to digits_; else nothing
  void round_weights();                      // to what ops read
  void load(const Batch& batch);             // checks it, and converts the pictures to (h, w, c)
  double run_forward(const Timed& timed, const ParameterNeeded& needed = {});
  void run_backward(const GradientReady& ready, const Timed& timed);
  void finish_gradients(int node, const GradientReady& ready);
  std::vector<const T*> inputs_of(const NodeInfo& node) const;
  std::vector<double> in_public_order(int parameter, const std::vector<T>& block) const;

  Net net_;
  PlanOptions options_;
  std::vector<std::vector<int>> parameters_of_;       // by node
  std::vector<bool> needed_in_evaluation_;            // by node: the main head depends on it
  std::vector<Extent> extents_;                       // by parameter
  std::vector<T> parameters_, gradients_, momentum_;  // blocks, by extent
  int digits_;              // kept of values, their gradients and weights; 0: all
  std::vector<T> rounded_;  // parameters as ops read them, then
  bool momentum_started_ = false;
  std::vector<std::vector<T>> running_;      // by statistic
  std::vector<std::unique_ptr<Op<T>>> ops_;  // by node; null for the input
  std::vector<std::vector<T>> outputs_;      // by node: (batch, height, width, channels)
  std::vector<std::int32_t> labels_;         // of the last forward pass
};

extern template class ReferencePlan<float>;
extern template class ReferencePlan<double>;

}  // namespace rackmark::worker::reference
