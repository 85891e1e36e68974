// Pictures one after the other, for calibration and comparison: the same on every rank.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/domain/spec.hpp"
#include "worker/input/batch_source.hpp"
#include "worker/input/picture_list.hpp"

namespace rackmark::worker {

class PictureStream {
 public:
  // Of the data set in its shuffled order; without one, test cards: waves of random direction,
  // length and colour with a little noise. Synthetic batches would not do: white noise looks the
  // same everywhere, so that a network's answers to two of them hardly differ.
  // `raw`: those of a data set are taken as bytes with windows.
  PictureStream(const JobSpec& spec, const std::optional<PictureList>& pictures, bool raw = false);

  InputBatch take(std::int64_t count);                 // without labels
  std::vector<float> take_values(std::int64_t count);  // count x 3 x size x size, NCHW, normalised

 private:
  std::int64_t seed_, size_, drawn_ = 0;
  std::unique_ptr<BatchSource> source_;  // null: test cards
};

// Picture `number` of a seed; for tests too.
std::vector<float> test_card(std::int64_t seed, std::int64_t number, std::int64_t size);

}  // namespace rackmark::worker
