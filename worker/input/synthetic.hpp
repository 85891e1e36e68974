// A fixed, seeded batch, made once and handed out every step: measures the engine alone.
#pragma once

#include <cstdint>

#include "worker/input/batch_source.hpp"

namespace rackmark::worker {

class SyntheticSource : public BatchSource {
 public:
  // Pixels are uniform("<seed>:input:<rank>") in [-1, 1) without zeros and denormals (both make
  // some CPUs faster or slower than real pictures do). Picture i of rank r has the label (37 n +
  // 11) mod classes with n = r x batch + i.
  SyntheticSource(std::int64_t seed, std::int64_t rank, std::int64_t batch, std::int64_t size,
                  std::int64_t classes);
  const InputBatch& next() override { return batch_; }

 private:
  InputBatch batch_;
};

}  // namespace rackmark::worker
