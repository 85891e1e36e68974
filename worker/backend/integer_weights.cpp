#include "worker/backend/integer_weights.hpp"

#include <algorithm>
#include <cmath>

namespace rackmark::worker {

IntegerWeights quantize(const Folded& folded, int largest) {
  IntegerWeights result;
  const std::size_t per_channel = folded.weights.size() / folded.bias.size();
  for (std::size_t c = 0; c < folded.bias.size(); ++c) {
    const float* row = folded.weights.data() + c * per_channel;
    float peak = 0;
    for (std::size_t i = 0; i < per_channel; ++i) peak = std::max(peak, std::abs(row[i]));
    const float step = peak > 0 ? peak / static_cast<float>(largest) : 1.0F;
    result.steps.push_back(step);
    for (std::size_t i = 0; i < per_channel; ++i) {
      result.integers.push_back(static_cast<std::int8_t>(std::lround(row[i] / step)));
    }
  }
  return result;
}

}  // namespace rackmark::worker
