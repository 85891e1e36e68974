// What an exchange costs on a network, by the alpha-beta model: every message costs alpha, every
// byte beta, and what happens at the same time on different links costs once. Pure functions.
//
// Formulas: Thakur, Rabenseifner, Gropp, "Optimization of Collective Communication Operations in
// MPICH" (2005), with what Open MPI's coll/tuned does for rank counts that are no power of two.
// Links are full duplex. The time of the arithmetic is not in it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace rackmark::measure {

struct LinkModel {
  double alpha_s = 0;          // of one message
  double beta_s_per_byte = 0;  // 1 / bandwidth
};

struct CollectiveCost {  // on the longest path
  double messages = 0, bytes = 0;
  bool operator==(const CollectiveCost&) const = default;
};
inline double seconds_of(const CollectiveCost& cost, const LinkModel& link) {
  return cost.messages * link.alpha_s + cost.bytes * link.beta_s_per_byte;
}

// `bytes` is the length of the vector as it lies in memory on every rank.
//   ring                2 (p - 1) messages of bytes / p
//   recursive_doubling  log2 p messages of all bytes; two more when p is no power of two
//   rabenseifner        2 log2 p messages, 2 (p - 1) / p of the bytes; three more of half, half and
//                       all of the bytes when p is no power of two
// Null for another name.
std::optional<CollectiveCost> all_reduce_cost(std::string_view algorithm, std::int64_t ranks,
                                              double bytes);
// "auto": what is cheapest on this link, which is what the library's own choice aims at.
CollectiveCost cheapest_all_reduce(std::int64_t ranks, double bytes, const LinkModel& link);
// All-to-all of shards and all-gather with half of the bytes: 2 (p - 1) messages of bytes / 2p.
CollectiveCost sixteen_bit_all_reduce_cost(std::int64_t ranks, double bytes);

// One step of a parameter server in sync mode. Every worker sends its gradients to the servers that
// keep them and gets as many variables back; what a host sends to itself costs nothing. With W
// workers, S servers of k shards each (of equal size) and n bytes, in one direction of the link of
// the host where most happens:
//   pushes    gradients that arrive there: W n / S at a dedicated server, n (W - 1) K / S at a host
//             with a worker and K = ceil(S / W) servers. As much is sent by each worker at least: n
//             to dedicated servers.
//   last      variables are sent when all gradients of a shard are there. Two shards at a time are
//             on their way to a server and share the link, so that the answers to the last two (or
//             one) begin only when all pushes have arrived; those to earlier ones flow beside them.
//   traffic   on a host with both, that direction also carries the answers for its worker. It is
//             never idle when every host has a server: S = W gives 2 (W - 1) / W n, as a ring
//             all-reduce, for any number of shards.
// The cost is that of the larger of pushes + last and traffic; a message is a shard.
struct PushPull {
  std::int64_t workers = 1, servers = 1;
  bool dedicated = false;  // servers have links of their own; false: each shares a worker's
  double shard_bytes = 4194304;
};
CollectiveCost push_pull_cost(const PushPull& shape, double bytes);

// busbw = algbw x factor is the bandwidth that the links see, the same for any number of ranks; as
// nccl-tests defines it (doc/PERFORMANCE.md): all_reduce 2 (p - 1) / p, broadcast 1. push_pull with
// a server on every rank moves what an all-reduce moves.
double bus_factor(std::string_view operation, std::int64_t ranks);

struct CollectivePoint {
  CollectiveCost cost;
  double seconds = 0;
};
// Least squares of the relative error; alpha and beta are never negative. Null from fewer than two
// points, or from points that cannot tell the two apart.
std::optional<LinkModel> fit_link(std::span<const CollectivePoint> points);

struct AllReducePoint {
  std::int64_t ranks = 2;
  double bytes = 0, seconds = 0;
};
// The link on which all-reduces by this algorithm took so long; as fit_link(), null also for
// another name. "auto" takes each as the cheapest on the link that comes out (two ranks have
// nothing to choose).
std::optional<LinkModel> fit_all_reduces(std::span<const AllReducePoint> points,
                                         std::string_view algorithm);

}  // namespace rackmark::measure
