#include "common/measure/scaling.hpp"

#include <algorithm>
#include <cmath>

namespace rackmark::measure {
namespace {

// The exchange keeps its last bucket small, since nothing is left to hide it behind.
constexpr double kLastBucketBytes = 1 << 20;
constexpr double kBackwardShare = 2.0 / 3;

std::optional<CollectiveCost> bucket_cost(const GradientExchange& exchange, std::int64_t ranks,
                                          double bytes, const LinkModel& link) {
  if (ranks < 2) return CollectiveCost{};
  if (exchange.sixteen_bits) return sixteen_bit_all_reduce_cost(ranks, bytes);
  if (exchange.algorithm == "auto") return cheapest_all_reduce(ranks, bytes, link);
  return all_reduce_cost(exchange.algorithm, ranks, bytes);
}

}  // namespace

std::optional<ExchangeSeconds> exchange_seconds(const GradientExchange& exchange,
                                                std::int64_t ranks, const LinkModel& link) {
  const bool single = exchange.gradient_bytes <= exchange.bucket_bytes;
  const double last =
      single ? exchange.gradient_bytes : std::min(kLastBucketBytes, exchange.bucket_bytes);
  const double before = exchange.gradient_bytes - last;
  const double buckets = std::ceil(before / exchange.bucket_bytes);
  const auto last_cost = bucket_cost(exchange, ranks, last, link);
  if (!last_cost) return std::nullopt;
  ExchangeSeconds seconds;
  seconds.last_bucket = seconds.all = seconds_of(*last_cost, link);
  if (buckets > 0) {
    seconds.all +=
        buckets * seconds_of(*bucket_cost(exchange, ranks, before / buckets, link), link);
  }
  return seconds;
}

double exposed_seconds(const ExchangeSeconds& exchange, bool overlap, double compute_s) {
  if (!overlap) return exchange.all;
  return std::max(exchange.last_bucket, exchange.all - kBackwardShare * compute_s);
}

double speed_up(double rate, double base_rate) { return rate / base_rate; }

double efficiency(double rate, std::int64_t agents, double base_rate, std::int64_t base_agents) {
  return rate / base_rate * static_cast<double>(base_agents) / static_cast<double>(agents);
}

}  // namespace rackmark::measure
