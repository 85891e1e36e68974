// Gradients of a step exchanged between devices: a bucket leaves when its last gradient has been
// given to the queue.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

class GroupExchange {
 public:
  // Collective. `extents` by parameter; `gradients` is where the block begins on the device.
  GroupExchange(Device& device, const TrainPlan::RankGroup& group,
                const std::vector<TrainPlan::Extent>& extents, float* gradients);
  std::string library() const { return collective_->library(); }

  void begin();               // of a backward pass
  void ready(int parameter);  // its gradient has been given to the queue
  void join();                // the queue waits for all buckets

  // How long the queue waited in the join() before the last one; 0 before there were two.
  double exposed_ms() const;

 private:
  void send(std::size_t bucket);

  std::vector<TrainPlan::Extent> buckets_;
  bool overlap_;
  float* gradients_;
  std::vector<std::size_t> bucket_of_;  // by parameter
  std::vector<int> parameters_in_;      // by bucket
  std::vector<int> missing_;            // by bucket: gradients of this pass
  std::unique_ptr<Collective> collective_;
  struct Wait {
    std::unique_ptr<Mark> begin, end;
  };
  Wait waits_[2];  // of the last two joins
  std::int64_t joins_ = 0;
};

}  // namespace rackmark::worker::cuda
