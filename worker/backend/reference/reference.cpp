#include "worker/backend/reference/reference.hpp"

#include <omp.h>

#include <chrono>
#include <new>
#include <utility>

#include "worker/backend/digits.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/backend/reference/plan.hpp"

namespace rackmark::worker {
namespace {

template <class T>
std::unique_ptr<TrainPlan> compile_as(const Net& net, const PlanOptions& options) {
  using Plan = reference::ReferencePlan<T>;
  const std::int64_t wanted = Plan::predicted_bytes(net, options);
  const MemoryLimit limit = memory_limit();
  if (wanted > limit.free_bytes) throw OutOfMemory(wanted, limit);
  try {
    return std::make_unique<Plan>(net, options);
  } catch (const std::bad_alloc&) {
    throw OutOfMemory(wanted, limit);
  }
}

// Inference through the evaluation pass of a training plan.
class EvaluatingPlan final : public InferPlan {
 public:
  EvaluatingPlan(std::unique_ptr<TrainPlan> plan, const TrainedValues& values, int batch)
      : plan_(std::move(plan)), labels_(static_cast<std::size_t>(batch)) {
    for (std::size_t i = 0; i < net().parameters().size(); ++i) {
      plan_->write_parameter(static_cast<int>(i), values.parameters.at(i));
    }
    for (std::size_t i = 0; i < net().running_statistics().size(); ++i) {
      plan_->write_running(static_cast<int>(i), values.running.at(i));
    }
  }
  const Net& net() const override { return plan_->net(); }
  PlanFacts facts() const override { return plan_->facts(); }
  void run(const Batch& batch) override {
    plan_->evaluate({.images = batch.images, .labels = labels_});
  }
  std::vector<double> logits() const override { return plan_->logits(); }
  std::vector<OpTime> profile(const Batch& batch) override {
    const auto start = std::chrono::steady_clock::now();
    run(batch);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    const double gflop =
        net().forward_flop_per_image() * static_cast<double>(labels_.size()) * 1e-9;
    return {{"all", "forward", "plain loops", took.count(), gflop, 0}};
  }

 private:
  std::unique_ptr<TrainPlan> plan_;
  std::vector<std::int32_t> labels_;  // evaluation wants some
};

class ReferenceBackend final : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::vector<std::string> precisions() const override {
    return {"fp32", "bf16", "fp16", "tf32", "fp64"};
  }
  bool usable(std::string*) const override { return true; }

  std::unique_ptr<TrainPlan> compile(const Net& net, const PlanOptions& options) override {
    PlanOptions resolved = options;
    if (resolved.batch < 1) throw std::invalid_argument("the batch must be at least 1");
    if (resolved.threads == 0) resolved.threads = omp_get_num_procs();
    if (resolved.precision == "fp32" || kept_digits(resolved.precision) > 0)
      return compile_as<float>(net, resolved);
    if (resolved.precision == "fp64") return compile_as<double>(net, resolved);
    throw std::invalid_argument("backend reference has no precision '" + resolved.precision +
                                "', only fp32, bf16, fp16, tf32, fp64");
  }

  std::vector<std::string> inference_precisions() const override { return precisions(); }
  std::unique_ptr<InferPlan> compile_inference(const Net& net, const InferOptions& options,
                                               const TrainedValues& values) override {
    PlanOptions plan;
    plan.batch = options.batch;
    plan.threads = options.threads;
    plan.precision = options.precision;
    plan.training = false;
    return std::make_unique<EvaluatingPlan>(compile(net, plan), values, options.batch);
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace rackmark::worker
