#include "worker/backend/onednn/inference/ranges.hpp"

#include <span>
#include <stdexcept>

namespace rackmark::worker::onednn {
namespace {

std::span<const float> values_of(const Step& step, const std::byte* at) {
  const auto bytes = static_cast<std::size_t>(padded_bytes(step.made_value.desc));
  return {reinterpret_cast<const float*>(at), bytes / sizeof(float)};
}

}  // namespace

Peaks find_peaks(Program& program, std::size_t values,
                 const std::vector<std::vector<float>>& batches) {
  std::vector<ValueRange> ranges(values);
  for (const auto& batch : batches) {
    program.run(batch.data(), [&](const Step& step, const std::byte* at) {
      if (ranges[step.value].see(values_of(step, at))) return;
      throw std::invalid_argument("onednn: node '" + step.node +
                                  "' gives values that are not finite: no range for int8");
    });
  }
  for (const auto& batch : batches) {
    program.run(batch.data(), [&](const Step& step, const std::byte* at) {
      ranges[step.value].count(values_of(step, at));
    });
  }
  Peaks peaks;
  for (const ValueRange& range : ranges) {
    peaks.push_back(range.peak(range.has_negative() ? 127 : 255));
  }
  return peaks;
}

}  // namespace rackmark::worker::onednn
