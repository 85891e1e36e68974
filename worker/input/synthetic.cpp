#include "worker/input/synthetic.hpp"

#include <cmath>
#include <string>

#include "worker/net/net.hpp"

namespace rackmark::worker {

SyntheticSource::SyntheticSource(std::int64_t seed, std::int64_t rank, std::int64_t batch,
                                 std::int64_t size, std::int64_t classes) {
  constexpr float kSmallest = 0x1p-23F;  // the step of uniform()'s own grid
  batch_.images =
      uniform(std::to_string(seed) + ":input:" + std::to_string(rank), batch * 3 * size * size);
  for (float& value : batch_.images) {
    if (std::abs(value) < kSmallest) value = kSmallest;
  }
  for (std::int64_t i = 0; i < batch; ++i) {
    const std::int64_t n = rank * batch + i;
    batch_.labels.push_back(static_cast<std::int32_t>((37 * n + 11) % classes));
  }
  // All arguments but the size of the batch decide the content; a plan has one size.
  batch_.identity = 1;
  for (const std::int64_t part : {seed, rank, classes}) {
    batch_.identity = splitmix64(batch_.identity ^ static_cast<std::uint64_t>(part));
  }
}

}  // namespace rackmark::worker
