// How a job scales over more hosts, and what the alpha-beta model of its network (collective_model)
// says of hosts that nobody has. Pure functions.
//
// Predicted step of p ranks = compute + exposed(p), both in seconds:
//   compute     the step of one host, less what it waited for communication
//   exchange(p) all-reduces of all buckets on the fitted link (Thakur, Rabenseifner, Gropp 2005)
//   exposed(p)  without overlap: exchange(p). With it, buckets leave while backward still computes,
//               as in Li et al., "PyTorch Distributed" (VLDB 2020): what the rest of backward
//               cannot hide, max(last bucket, exchange(p) - backward). Backward is 2/3 of compute:
//               the gradients of inputs and of weights cost as much as forward each.
// Nothing in it is fitted to the runs that it predicts. Not in it: ranks that wait for slower ones,
// cores that sending takes from computing, ranks of one host that share its link.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/measure/collective_model.hpp"

namespace rackmark::measure {

struct GradientExchange {  // by all-reduce, of one model
  std::string algorithm = "auto";
  double gradient_bytes = 0, bucket_bytes = 26214400;  // as fp32
  bool overlap = true;
  bool sixteen_bits = false;  // on the wire
};

struct ExchangeSeconds {
  double all = 0, last_bucket = 0;
};
// Null for an unknown algorithm. 0 for a single rank.
std::optional<ExchangeSeconds> exchange_seconds(const GradientExchange& exchange,
                                                std::int64_t ranks, const LinkModel& link);
double exposed_seconds(const ExchangeSeconds& exchange, bool overlap, double compute_s);

// images/s of `agents` hosts over that of `base_agents`.
double speed_up(double rate, double base_rate);
// The same over agents / base_agents: 1 is a straight line through the base point.
double efficiency(double rate, std::int64_t agents, double base_rate, std::int64_t base_agents);

}  // namespace rackmark::measure
