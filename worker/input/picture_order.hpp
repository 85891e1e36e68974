// Second stage: which picture a rank takes when. Shards and shuffles.
#pragma once

#include <cstdint>
#include <vector>

namespace rackmark::worker {

// The pictures of one rank as an endless sequence. An epoch is ceil(pictures / ranks) long for
// every rank, so all make the same number of steps; where that does not come out even, the first
// pictures of the epoch's order fill up. With `shuffle` each epoch has an order of its own, the
// same on every rank, made from seed and epoch.
class PictureOrder {
 public:
  PictureOrder(std::int64_t pictures, std::int64_t rank, std::int64_t ranks, std::int64_t seed,
               bool shuffle);
  std::int64_t next();                           // index into the list
  std::int64_t epoch() const { return epoch_; }  // of what next() gave last, from 0
  std::int64_t epoch_length() const { return epoch_length_; }

 private:
  void start_epoch();

  const std::int64_t pictures_, rank_, ranks_, seed_;
  const bool shuffle_;
  const std::int64_t epoch_length_;
  std::int64_t epoch_ = -1, position_ = 0;
  std::vector<std::uint32_t> order_;
};

}  // namespace rackmark::worker
