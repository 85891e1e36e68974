// A net compiled for oneDNN: see backend.hpp for the contract.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/graph.hpp"
#include "worker/backend/onednn/arena.hpp"
#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {

// What PlanOptions::fusion means here: parts joined by "+", or "none". "" is kDefaultFusion.
//   bn-relu-add  batch norm, ReLU and residual add in one operation
//   recompute    outputs of batch norm and ReLU from 4 MiB are made again in backward, not kept
//   winograd     3x3 convolutions of stride 1 by Winograd, with AVX-512 or AVX2
struct Fusion {
  bool norm = false, recompute = false, winograd = false;
};
Fusion parse_fusion(const std::string& text);  // throws std::invalid_argument naming what is known
std::string fusion_text(const Fusion& fusion);

class Plan final : public TrainPlan {
 public:
  Plan(const Net& net, const PlanOptions& options);  // throws as Backend::compile
  // What the constructor would take from the system, without taking it.
  static std::int64_t predict_bytes(const Net& net, const PlanOptions& options);

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
  std::span<float> gradient_block() override { return {gradients_, block_floats()}; }
  std::span<float> parameter_block() override { return {parameters_, block_floats()}; }
  Extent extent(int parameter) const override { return extents_.at(parameter); }
  std::string layout_key() const override { return layout_key_; }
  std::vector<OpTime> profile(const Batch& batch) override;

 private:
  enum class Purpose { kRun, kPredict };
  Plan(const Net& net, const PlanOptions& options, Purpose purpose);
  void add_ops();
  void place_in_concats(const std::vector<Group>& groups,
                        const std::vector<std::vector<int>>& readers);
  void find_gradient_needs();
  std::vector<int> plan_passes();  // parameters in the order in which backward finishes them
  void place_parameters(const std::vector<int>& order);
  std::int64_t total_bytes(std::int64_t arena_bytes) const;
  void allocate(std::int64_t arena_bytes);
  void set_layout_key();
  void load(const Batch& batch);
  void run_forward(Pass& pass, const Batch& batch, const ParameterNeeded& needed = {});
  void run_backward(Pass& pass);
  Pass make_pass(const Batch* batch, std::vector<OpTime>* times);
  std::size_t block_floats() const { return static_cast<std::size_t>(block_floats_); }
  std::vector<double> read(const float* block, int parameter) const;

  Net net_;
  PlanOptions options_;
  Fusion fusion_;
  int threads_ = 1;
  Storage storage_ = Storage::kFloat;
  Assembly assembly_;
  dnnl::stream stream_;
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<bool> op_in_evaluation_;
  std::vector<std::vector<int>> parameters_of_op_;
  std::vector<Extent> extents_;  // by parameter
  std::int64_t block_floats_ = 0;
  std::int64_t predicted_bytes_ = 0;  // set by Purpose::kPredict
  std::string layout_key_;
  std::unique_ptr<Pages> pages_;
  float *parameters_ = nullptr, *gradients_ = nullptr, *velocities_ = nullptr;
  std::byte* arena_ = nullptr;
  std::vector<std::vector<float>> running_;  // by statistic
  bool can_go_back_ = false;                 // a training forward pass is the last one
};

}  // namespace rackmark::worker::onednn
