#include "worker/backend/onednn/inference/ranges.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace rackmark::worker::onednn {
namespace {

constexpr int kBins = 2048;
constexpr int kCandidates = 96;  // peaks tried: largest * (i + 1) / kCandidates
constexpr int kSmallestCandidate = kCandidates / 4;

struct Values {
  const float* first;
  std::int64_t count;
};
Values values_of(const Step& step, const std::byte* at) {
  return {reinterpret_cast<const float*>(at),
          padded_bytes(step.made_value.desc) / static_cast<std::int64_t>(sizeof(float))};
}

}  // namespace

float best_peak(const std::vector<double>& counts, float largest, int steps) {
  const double bin = static_cast<double>(largest) / static_cast<double>(counts.size());
  double best_error = INFINITY, best = largest;
  for (int i = kSmallestCandidate; i <= kCandidates; ++i) {
    const double peak = static_cast<double>(largest) * i / kCandidates;
    const double rounding = peak / steps * (peak / steps) / 12;
    double error = 0;
    for (std::size_t b = 0; b < counts.size(); ++b) {
      const double beyond = (static_cast<double>(b) + 0.5) * bin - peak;
      error += counts[b] * (beyond > 0 ? beyond * beyond : rounding);
    }
    if (error > best_error) continue;
    best_error = error;
    best = peak;
  }
  return static_cast<float>(best);
}

Peaks find_peaks(Program& program, std::size_t values,
                 const std::vector<std::vector<float>>& batches) {
  Peaks largest(values, 0.0F);
  std::vector<bool> negative(values, false);
  for (const auto& batch : batches) {
    program.run(batch.data(), [&](const Step& step, const std::byte* at) {
      const auto [first, count] = values_of(step, at);
      const auto [low, high] = std::minmax_element(first, first + count);
      largest[step.value] = std::max({largest[step.value], *high, -*low});
      if (!std::isfinite(std::accumulate(first, first + count, 0.0F))) {
        throw std::invalid_argument("onednn: node '" + step.node +
                                    "' gives values that are not finite: no range for int8");
      }
      negative[step.value] = negative[step.value] || *low < 0;
    });
  }
  std::vector<std::vector<double>> counts(values);
  for (const auto& batch : batches) {
    program.run(batch.data(), [&](const Step& step, const std::byte* at) {
      if (!(largest[step.value] > 0)) return;
      auto& bins = counts[step.value];
      bins.resize(kBins, 0.0);
      const auto [first, count] = values_of(step, at);
      const float factor = kBins / largest[step.value];
      for (std::int64_t i = 0; i < count; ++i) {
        if (first[i] == 0) continue;  // exact in any step
        const int bin = static_cast<int>(std::abs(first[i]) * factor);
        bins[std::min(bin, kBins - 1)] += 1;
      }
    });
  }
  Peaks peaks(values, 0.0F);
  for (std::size_t i = 0; i < values; ++i) {
    if (!counts[i].empty()) peaks[i] = best_peak(counts[i], largest[i], negative[i] ? 127 : 255);
  }
  return peaks;
}

}  // namespace rackmark::worker::onednn
