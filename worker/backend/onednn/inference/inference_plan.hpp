// A net with its trained values compiled for inference on oneDNN: see backend.hpp for the contract.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/onednn/inference/builder.hpp"
#include "worker/backend/onednn/plan.hpp"

namespace rackmark::worker::onednn {

class InferencePlan final : public InferPlan {
 public:
  // Throws as Backend::compile_inference. `values` is not kept.
  InferencePlan(const Net& net, const InferOptions& options, const TrainedValues& values);
  // What the plan will hold, without taking it. `calibration` may be empty.
  static std::int64_t predict_bytes(const Net& net, const InferOptions& options,
                                    const TrainedValues& values);

  const Net& net() const override { return net_; }
  PlanFacts facts() const override;
  void run(const Batch& batch) override;
  std::vector<double> logits() const override;
  std::vector<OpTime> profile(const Batch& batch) override;

 private:
  void check_images(std::span<const float> images) const;
  Peaks calibrate(const TrainedValues& values);
  void note_integers(const BuildReport& report);

  Net net_;
  InferOptions options_;
  Fusion fusion_;
  int threads_ = 1;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::unique_ptr<Program> program_;
  Operand logits_;
  std::map<std::string, std::string> notes_;
};

std::vector<std::string> inference_precisions();

}  // namespace rackmark::worker::onednn
