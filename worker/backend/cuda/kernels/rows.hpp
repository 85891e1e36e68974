// How threads go through the rows of a matrix. A thread keeps to one group of channels, so that it
// divides once and reads scales and the like once. Threads side by side have groups side by side:
// together they read whole lines of memory. Rows are cut into segments, one after the other, each
// with lanes of its own that take every so many rows of it: blocks begin in their order, so what is
// read and written moves from the first row to the last, some 16 segments at a time. The last ones
// are still in the cache when the kernel ends, as far as those 16 are smaller than it (an H200's 50
// MB: of values up to some 100 MB). Sums (sums.hpp) go from the last row to the first, after
// whoever wrote them.
#pragma once

#include <algorithm>

#include "worker/backend/cuda/kernels/groups.hpp"

namespace rackmark::worker::cuda::bodies {

constexpr int kThreads = 256;  // of a block

// How many rows a thread has on their way, given how many of them are wanted of 16-bit values: what
// counts is bytes, and floats take twice the registers. Value by value there is no hurry.
template <class Access>
constexpr int in_flight(int rows) {
  if (!Access::kWhole) return 1;
  return sizeof(typename Access::Value) == 4 ? rows / 2 : rows;
}

// use(row, load(row)) for row, row + step, ... below `rows`; kInFlight rows are loaded before the
// first of them is used.
template <int kInFlight, class Load, class Use>
RM_DEVICE void for_rows(unsigned row, unsigned step, unsigned rows, const Load& load,
                        const Use& use) {
  using Values = decltype(load(row));
  if constexpr (kInFlight > 1) {
    for (; row + (kInFlight - 1) * step < rows; row += kInFlight * step) {
      Values values[kInFlight];
      RM_UNROLL
      for (unsigned i = 0; i < kInFlight; ++i) values[i] = load(row + i * step);
      RM_UNROLL
      for (unsigned i = 0; i < kInFlight; ++i) use(row + i * step, values[i]);
    }
  }
  for (; row < rows; row += step) use(row, load(row));
}

template <class Access>
RM_DEVICE Span span_of(unsigned group, int channels) {
  const int first = static_cast<int>(group) * kGroup;
  if (Access::kWhole || first + kGroup <= channels) return {first, kGroup};
  return {first, channels - first};
}

// Threads beyond lanes x groups have nothing to do. Rows are fewer than 2^31 (checked where kernels
// are launched).
struct Walk {
  unsigned rows = 0, groups = 1, lanes = 1;
  unsigned segment_lanes = 1, segment_rows = 1;  // lanes are a multiple of the former
  int channels = kGroup;
};
// `threads`: at least one for each group. `segment_threads`: about as many for a segment.
inline Walk walk_over(std::int64_t rows, int channels, std::int64_t threads,
                      std::int64_t segment_threads) {
  const std::int64_t groups = groups_of(channels), lanes = threads / groups;
  const std::int64_t segments =
      std::clamp<std::int64_t>(threads / segment_threads, 1, std::max<std::int64_t>(lanes / 8, 1));
  const std::int64_t segment_lanes = lanes / segments;
  return {static_cast<unsigned>(rows),
          static_cast<unsigned>(groups),
          static_cast<unsigned>(segments * segment_lanes),
          static_cast<unsigned>(segment_lanes),
          static_cast<unsigned>((rows + segments - 1) / segments),
          channels};
}

// One thread's share. A body has: Access; Channels begin(Span), what a thread keeps; Values
// load(channels, Span, row); finish(channels, Span, row, values), which writes; kInFlight.
template <class Body>
RM_DEVICE void walk_rows(const Body& body, const Walk& walk, unsigned thread) {
  const unsigned lane = thread / walk.groups;
  if (lane >= walk.lanes) return;
  const Span span = span_of<typename Body::Access>(thread - lane * walk.groups, walk.channels);
  const unsigned segment = lane / walk.segment_lanes, first = segment * walk.segment_rows;
  const unsigned end =
      first + walk.segment_rows < walk.rows ? first + walk.segment_rows : walk.rows;
  const auto channels = body.begin(span);
  for_rows<Body::kInFlight>(
      first + (lane - segment * walk.segment_lanes), walk.segment_lanes, end,
      [&](unsigned row) { return body.load(channels, span, row); },
      [&](unsigned row, const auto& values) { body.finish(channels, span, row, values); });
}

struct Nothing {};

}  // namespace rackmark::worker::cuda::bodies
