#include "worker/input/picture_order.hpp"

#include <numeric>
#include <utility>

#include "worker/net/net.hpp"

namespace rackmark::worker {

PictureOrder::PictureOrder(std::int64_t pictures, std::int64_t rank, std::int64_t ranks,
                           std::int64_t seed, bool shuffle)
    : pictures_(pictures),
      rank_(rank),
      ranks_(ranks),
      seed_(seed),
      shuffle_(shuffle),
      epoch_length_((pictures + ranks - 1) / ranks),
      order_(static_cast<std::size_t>(pictures)) {
  start_epoch();
}

std::int64_t PictureOrder::next() {
  if (position_ == epoch_length_) start_epoch();
  const std::int64_t place = (position_++ * ranks_ + rank_) % pictures_;
  return order_[static_cast<std::size_t>(place)];
}

void PictureOrder::start_epoch() {
  ++epoch_;
  position_ = 0;
  std::iota(order_.begin(), order_.end(), 0U);
  if (!shuffle_) return;
  // Own generator and shuffle: std::shuffle gives another order with another library.
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15ULL;
  std::uint64_t state =
      static_cast<std::uint64_t>(seed_) * kStep + static_cast<std::uint64_t>(epoch_);
  for (std::size_t i = order_.size() - 1; i > 0; --i, state += kStep) {
    std::swap(order_[i], order_[splitmix64(state) % (i + 1)]);
  }
}

}  // namespace rackmark::worker
