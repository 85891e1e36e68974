// What both benchmark programs share: clock, pictures, percentiles, and facts for machines.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "worker/backend/backend.hpp"

namespace rackmark::worker::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Steps from now on: at least so many of them, and for at least so long.
class Stretch {
 public:
  Stretch(int steps, double seconds) : steps_(steps), least_s_(seconds) {}
  bool goes_on(int done) const { return done < steps_ || seconds() < least_s_; }
  double seconds() const { return seconds_since(start_); }

 private:
  Clock::time_point start_ = Clock::now();
  int steps_;
  double least_s_;
};

inline double peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

// One batch, sent to a device once. Its values are random: zeros let a GPU clock higher.
constexpr std::uint64_t kIdentity = 1;

inline std::vector<float> random_pictures(const Net& net, int batch, std::mt19937& random) {
  std::normal_distribution<float> pixel;
  std::vector<float> images(static_cast<std::size_t>(batch * net.nodes()[0].shape.elements()));
  for (float& value : images) value = pixel(random);
  return images;
}

// Nearest rank; `sorted` is not empty.
inline double percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

inline nlohmann::json percentiles_of(const std::vector<double>& sorted, double factor) {
  return {{"min", factor * sorted.front()},           {"p50", factor * percentile(sorted, 0.5)},
          {"p90", factor * percentile(sorted, 0.9)},  {"p95", factor * percentile(sorted, 0.95)},
          {"p99", factor * percentile(sorted, 0.99)}, {"max", factor * sorted.back()}};
}

inline nlohmann::json facts_of(const PlanFacts& facts) {
  return {{"backend", facts.backend},
          {"isa", facts.isa},
          {"fusion", facts.fusion},
          {"libraries", facts.libraries},
          {"arena_bytes", facts.arena_bytes},
          {"threads", facts.threads},
          {"notes", facts.notes}};
}

}  // namespace rackmark::worker::bench
