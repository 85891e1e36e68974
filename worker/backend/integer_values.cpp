#include "worker/backend/integer_values.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace rackmark::worker {
namespace {

constexpr int kBins = 2048;
constexpr int kCandidates = 96;  // peaks tried: largest * (i + 1) / kCandidates
constexpr int kSmallestCandidate = kCandidates / 4;

}  // namespace

bool keeps_integers(const Net& net, const Unit& unit) {
  const NodeInfo& node = net.nodes()[unit.node];
  const Layer& layer = node.layer;
  if (std::holds_alternative<AdaptiveAveragePool>(layer)) {
    // Where it has nothing to do. A mean over a whole picture is far smaller than the picture's
    // range: in its steps little of it would be left.
    const Shape& in = net.nodes()[unit.inputs[0]].shape;
    return in.height == node.shape.height && in.width == node.shape.width;
  }
  return std::holds_alternative<MaxPool>(layer) || std::holds_alternative<AveragePool>(layer) ||
         std::holds_alternative<Concat>(layer) || std::holds_alternative<Flatten>(layer);
}

void share_peaks(const Net& net, const std::vector<Unit>& units, Peaks& peaks) {
  // Chains of pools and joins settle in as many rounds as they are long.
  for (bool changed = true; changed;) {
    changed = false;
    for (const Unit& unit : units) {
      if (!keeps_integers(net, unit)) continue;
      float widest = peaks[unit.output];
      for (const int input : unit.inputs) widest = std::max(widest, peaks[input]);
      const auto raise = [&](int value) {
        changed = changed || peaks[value] < widest;
        peaks[value] = widest;
      };
      raise(unit.output);
      for (const int input : unit.inputs) raise(input);
    }
  }
  std::replace(peaks.begin(), peaks.end(), 0.0F, 1.0F);  // always zero: any step will do
}

bool ValueRange::see(std::span<const float> values) {
  if (values.empty()) return true;
  if (!std::isfinite(std::accumulate(values.begin(), values.end(), 0.0F))) return false;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  largest_ = std::max({largest_, *high, -*low});
  negative_ = negative_ || *low < 0;
  return true;
}

void ValueRange::count(std::span<const float> values) {
  if (!(largest_ > 0)) return;
  counts_.resize(kBins, 0.0);
  const float factor = kBins / largest_;
  for (const float value : values) {
    if (value == 0) continue;  // exact in any step
    const int bin = static_cast<int>(std::abs(value) * factor);
    counts_[std::min(bin, kBins - 1)] += 1;
  }
}

float ValueRange::peak(int steps) const {
  if (counts_.empty()) return 0;
  const double bin = static_cast<double>(largest_) / kBins;
  double best_error = INFINITY, best = largest_;
  for (int i = kSmallestCandidate; i <= kCandidates; ++i) {
    const double peak = static_cast<double>(largest_) * i / kCandidates;
    const double rounding = peak / steps * (peak / steps) / 12;
    double error = 0;
    for (std::size_t b = 0; b < counts_.size(); ++b) {
      const double beyond = (static_cast<double>(b) + 0.5) * bin - peak;
      error += counts_[b] * (beyond > 0 ? beyond * beyond : rounding);
    }
    if (error > best_error) continue;
    best_error = error;
    best = peak;
  }
  return static_cast<float>(best);
}

}  // namespace rackmark::worker
