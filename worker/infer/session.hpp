// How one rank infers a spec: ranks, plan, input. Built once, run once.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "worker/infer/picture_stream.hpp"
#include "worker/train/session.hpp"

namespace rackmark::worker {

// See RankSession. Instances are ranks: they start together and exchange nothing.
class InferenceSession final : public RankSession {
 public:
  InferenceSession(SessionOptions options, Events& events, const Clock& clock,
                   const std::atomic<bool>& stop);
  void connect() override;
  void set_up() override;
  void run() override;
  Communicator* ranks() override { return ranks_.get(); }
  const JobSpec& spec() const override { return options_.spec; }

 private:
  void fit_memory(const Net& net, const InferOptions& options, const TrainedValues& values);
  void compile(const Net& net);
  InferOptions exact_options() const;  // the spec's batch in fp32
  void compare(const Net& net, PictureStream& pictures, const TrainedValues& values);
  StepRecord step();
  void check() const;
  void profile();
  void finish(const Window& window);

  SessionOptions options_;
  Events& events_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<Communicator> ranks_;
  std::optional<PictureList> pictures_;
  std::unique_ptr<Backend> backend_;
  int raw_side_ = 0;  // as in PlanOptions
  std::unique_ptr<InferPlan> plan_;
  std::unique_ptr<BatchSource> input_;
  std::optional<protocol::BatchSearch> batch_search_;
  std::optional<protocol::Agreement> agreement_;
  std::optional<double> setup_s_, matrix_peak_gflops_;
  std::vector<double> compute_ms_;  // of measured steps, kept for the profile only
};

}  // namespace rackmark::worker
