// A net that only answers, on a device: folded weights, values in one arena, one recording.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/plan/batch_input.hpp"
#include "worker/backend/cuda/plan/inference_op.hpp"
#include "worker/backend/cuda/plan/plan_parts.hpp"
#include "worker/backend/integer_values.hpp"

namespace rackmark::worker::cuda {

class InferencePlan final : public InferPlan, private PlanParts {
 public:
  // `values` is only read during the call. Throws as Backend::compile_inference. For int8 a plan in
  // float32 of few pictures runs first and is gone when this one takes memory.
  InferencePlan(std::shared_ptr<Device> device, const Net& net, const InferOptions& options,
                const TrainedValues& values);
  // Bytes of the device that the constructor would take at most, without a device.
  static std::int64_t predict_bytes(const Net& net, const InferOptions& options,
                                    const TrainedValues& values);

  const Net& net() const override { return net_; }
  PlanFacts facts() const override;
  void run(const Batch& batch) override;
  double run_and_bring(const NextBatch& next) override;
  std::vector<double> logits() const override {
    return read_logits(memory_.get() + regions_.arena);
  }
  std::vector<OpTime> profile(const Batch& batch) override;

 private:
  struct Regions {  // offsets into the block, in bytes
    std::int64_t constants = 0, pictures = 0, windows = 0, workspace = 0, arena = 0, total = 0;
  };
  // Without a device. `peaks` of int8: see integer_steps().
  InferencePlan(const Net& net, const InferOptions& options, const TrainedValues& values,
                const Peaks& peaks);
  static Peaks calibrated(const std::shared_ptr<Device>& device, const Net& net,
                          const InferOptions& options, const TrainedValues& values);
  Peaks find_peaks(const std::vector<std::vector<float>>& batches);
  using ValueSeen = std::function<void(int node, std::span<const float>)>;
  void show_values(std::span<const float> images, const ValueSeen& see);
  void add_ops(const TrainedValues& values, int raw_side, const Peaks& peaks);
  void note_integers(const std::vector<Unit>& units);
  void place_in_concat(int id, const std::vector<std::vector<int>>& readers,
                       const std::vector<Unit>& units);
  void plan();
  void define_dropouts(int id);
  Regions regions(std::int64_t workspace_bytes) const;
  std::int64_t most_bytes() const;  // with as much workspace as an engine may want
  void allocate();
  Pass make_pass(Stopwatch* stopwatch = nullptr);
  using OpIterator = std::vector<std::unique_ptr<Op>>::const_iterator;
  void give(Pass& pass, OpIterator first, OpIterator last);
  std::unique_ptr<Recording> recording_of(OpIterator first, OpIterator last);
  void forget_brought();

  BatchInput input_;  // what is on its way goes into the plan's memory
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<InferenceOp*> layers_;  // those of ops_ that have constants
  std::map<std::string, std::string> notes_;
  std::int64_t constant_bytes_ = 0;
  Regions regions_;
  std::unique_ptr<Recording> whole_;
  // Where the next batch comes meanwhile: what reads the batch, and the rest.
  struct Halves {
    std::unique_ptr<Recording> reading, answering;
    std::unique_ptr<Mark> begin, end;
  } halves_;
  bool brought_ = false;  // the batch of the next run_and_bring() is on its way
};

}  // namespace rackmark::worker::cuda
