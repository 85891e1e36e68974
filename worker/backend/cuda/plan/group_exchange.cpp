#include "worker/backend/cuda/plan/group_exchange.hpp"

namespace rackmark::worker::cuda {

GroupExchange::GroupExchange(Device& device, const TrainPlan::RankGroup& group,
                             const std::vector<TrainPlan::Extent>& extents, float* gradients)
    : buckets_(group.buckets),
      overlap_(group.overlap),
      gradients_(gradients),
      parameters_in_(group.buckets.size()),
      collective_(device.join_group(group.name, group.rank, group.size)) {
  for (const TrainPlan::Extent& extent : extents) {
    std::size_t bucket = 0;
    while (extent.offset >= buckets_[bucket].offset + buckets_[bucket].count) ++bucket;
    bucket_of_.push_back(bucket);
    ++parameters_in_[bucket];
  }
  for (Wait& wait : waits_) wait = {device.make_mark(), device.make_mark()};
  const TrainPlan::Extent& last = buckets_.back();
  collective_->offer(gradients_, last.offset + last.count);
}

void GroupExchange::begin() { missing_ = parameters_in_; }

void GroupExchange::ready(int parameter) {
  const std::size_t bucket = bucket_of_[static_cast<std::size_t>(parameter)];
  if (--missing_[bucket] == 0 && overlap_) send(bucket);
}

void GroupExchange::send(std::size_t bucket) {
  collective_->mean(gradients_ + buckets_[bucket].offset, buckets_[bucket].count);
}

void GroupExchange::join() {
  if (!overlap_) {
    for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) send(bucket);
  }
  Wait& wait = waits_[++joins_ % 2];
  wait.begin->set();
  collective_->join();
  wait.end->set();
}

double GroupExchange::exposed_ms() const {
  if (joins_ < 2) return 0;
  const Wait& wait = waits_[(joins_ - 1) % 2];
  return wait.end->ms_since(*wait.begin);
}

}  // namespace rackmark::worker::cuda
