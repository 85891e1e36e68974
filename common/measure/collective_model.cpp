#include "common/measure/collective_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace rackmark::measure {
namespace {

constexpr double kUnderWay = 2;  // shards on their way between two ends

struct Powers {  // the largest power of two within p
  double logarithm = 0, power = 1;
  bool exact = true;
};

Powers powers_of(std::int64_t ranks) {
  const auto p = static_cast<std::uint64_t>(std::max<std::int64_t>(1, ranks));
  const std::uint64_t power = std::bit_floor(p);
  return {static_cast<double>(std::bit_width(power) - 1), static_cast<double>(power), power == p};
}

// sum of w^2 a^2 and the like, with w = 1 / seconds.
struct Normal {
  double aa = 0, ab = 0, bb = 0, a = 0, b = 0;
};

}  // namespace

std::optional<CollectiveCost> all_reduce_cost(std::string_view algorithm, std::int64_t ranks,
                                              double bytes) {
  if (ranks < 2) return CollectiveCost{};
  const auto p = static_cast<double>(ranks);
  const Powers pow2 = powers_of(ranks);
  if (algorithm == "ring") return CollectiveCost{2 * (p - 1), 2 * (p - 1) / p * bytes};
  if (algorithm == "recursive_doubling") {
    const double rounds = pow2.logarithm + (pow2.exact ? 0 : 2);
    return CollectiveCost{rounds, rounds * bytes};
  }
  if (algorithm == "rabenseifner") {
    const double messages = 2 * pow2.logarithm, share = 2 * (pow2.power - 1) / pow2.power;
    return CollectiveCost{messages + (pow2.exact ? 0 : 3), (share + (pow2.exact ? 0 : 2)) * bytes};
  }
  return std::nullopt;
}

CollectiveCost cheapest_all_reduce(std::int64_t ranks, double bytes, const LinkModel& link) {
  CollectiveCost best = *all_reduce_cost("ring", ranks, bytes);
  for (const char* name : {"recursive_doubling", "rabenseifner"}) {
    const CollectiveCost cost = *all_reduce_cost(name, ranks, bytes);
    if (seconds_of(cost, link) < seconds_of(best, link)) best = cost;
  }
  return best;
}

CollectiveCost sixteen_bit_all_reduce_cost(std::int64_t ranks, double bytes) {
  return *all_reduce_cost("ring", ranks, bytes / 2);
}

CollectiveCost push_pull_cost(const PushPull& shape, double bytes) {
  const auto workers = static_cast<double>(shape.workers);
  const auto servers = static_cast<double>(shape.servers);
  const double shards = std::max(1.0, std::ceil(bytes / (servers * shape.shard_bytes)));
  const double last_share = std::min(1.0, kUnderWay / shards);
  double pushes = 0, traffic = 0;
  if (shape.dedicated) {
    pushes = traffic = bytes * std::max(1.0, workers / servers);
  } else {
    const double kept = std::min(1.0, std::ceil(servers / workers) / servers);
    pushes = kept * (workers - 1) * bytes;
    traffic = pushes + (1 - kept) * bytes;
  }
  const double longest = std::max(pushes * (1 + last_share), traffic);
  if (longest <= 0) return {};
  return {longest * servers * shards / bytes, longest};
}

double bus_factor(std::string_view operation, std::int64_t ranks) {
  const auto p = static_cast<double>(ranks);
  return operation == "broadcast" ? 1 : 2 * (p - 1) / p;
}

std::optional<LinkModel> fit_link(std::span<const CollectivePoint> points) {
  Normal n;
  for (const CollectivePoint& point : points) {
    if (!(point.seconds > 0)) return std::nullopt;
    const double a = point.cost.messages / point.seconds, b = point.cost.bytes / point.seconds;
    n.aa += a * a, n.ab += a * b, n.bb += b * b, n.a += a, n.b += b;
  }
  const double determinant = n.aa * n.bb - n.ab * n.ab;
  if (points.size() < 2 || !(determinant > 1e-9 * n.aa * n.bb)) return std::nullopt;
  const double alpha = (n.a * n.bb - n.b * n.ab) / determinant;
  const double beta = (n.b * n.aa - n.a * n.ab) / determinant;
  // On the edge of what is allowed the best point is that of the other one alone.
  if (alpha < 0) return LinkModel{0, n.b / n.bb};
  if (beta < 0) return LinkModel{n.a / n.aa, 0};
  return LinkModel{alpha, beta};
}

std::optional<LinkModel> fit_all_reduces(std::span<const AllReducePoint> points,
                                         std::string_view algorithm) {
  const bool automatic = algorithm == "auto";
  const auto cost_of = [&](const AllReducePoint& p, const LinkModel& link) {
    return automatic ? std::optional(cheapest_all_reduce(p.ranks, p.bytes, link))
                     : all_reduce_cost(algorithm, p.ranks, p.bytes);
  };
  // Which algorithm is the cheapest depends on the link: from few messages of all bytes to what
  // agrees with itself, in a bounded number of turns.
  constexpr int kTurns = 8;
  std::optional<LinkModel> link = LinkModel{1, 0};
  for (int turn = 0; link && turn < (automatic ? kTurns : 1); ++turn) {
    std::vector<CollectivePoint> costs;
    for (const AllReducePoint& point : points) {
      const auto cost = cost_of(point, *link);
      if (!cost) return std::nullopt;
      costs.push_back({*cost, point.seconds});
    }
    link = fit_link(costs);
  }
  return link;
}

}  // namespace rackmark::measure
