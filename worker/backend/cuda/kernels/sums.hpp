// Sums over all rows of a channel, in two kernels: each block sums its share (ColumnSums), then one
// kernel adds up the blocks' (Combination). Within a block threads add pairwise, in an order that
// follows from the shape alone.
//
// Rows are read from the last to the first: what wrote them went the other way, so the last ones
// may still be in the cache, and the first ones are when the kernel after this one begins with
// them.
//
// Kernels whose threads need each other's results run in phases: all threads of a block finish one
// before any begins the next. What passes from phase to phase lies in `Shared`.
#pragma once

#include <algorithm>

#include "worker/backend/cuda/kernels/rows.hpp"

namespace rackmark::worker::cuda::bodies {

// Adding up `lanes` values: each step adds the upper half of what is left to the lower one.
RM_DEVICE int lanes_left(int lanes, int steps) {
  for (; steps > 0; --steps) lanes = (lanes + 1) / 2;
  return lanes;
}
inline int tree_steps(int lanes) {
  int steps = 0;
  for (; lanes > 1; lanes = (lanes + 1) / 2) ++steps;
  return steps;
}
// The partner of `lane` in step `step` (from 0), 0 when it has none.
RM_DEVICE int partner_distance(int lanes, int step, int lane) {
  const int left = lanes_left(lanes, step), half = (left + 1) / 2;
  return lane < left - half ? half : 0;
}

// How the sums of a matrix are cut. A block has up to 32 groups of channels (512 bytes of a row of
// 16-bit values) and as many lanes of rows as its threads make. An H200 holds 4 of these blocks on
// each of 132 processors: the grid is one such filling, unless lanes would have fewer than 8 rows.
struct SumPlan {
  int tiles = 1, tile_groups = 1, lanes = 1, row_blocks = 1;
};
inline SumPlan plan_sums(std::int64_t rows, int channels) {
  constexpr std::int64_t kMostGroups = 32, kBlocks = 132 * 4, kLeastRows = 8;
  const std::int64_t groups = groups_of(channels);
  const std::int64_t tiles = (groups + kMostGroups - 1) / kMostGroups;
  const std::int64_t tile_groups = (groups + tiles - 1) / tiles, lanes = kThreads / tile_groups;
  const std::int64_t useful = (rows + lanes * kLeastRows - 1) / (lanes * kLeastRows);
  const std::int64_t row_blocks = std::max<std::int64_t>(1, std::min(kBlocks / tiles, useful));
  return {static_cast<int>(tiles), static_cast<int>(tile_groups), static_cast<int>(lanes),
          static_cast<int>(row_blocks)};
}

// partial[block][sum][channel]. A Summand has: Access; kSums; kInFlight; kBlocksPerProcessor;
// Channels begin(Span); Values load(Span, row); add(channels, Span, row, values, sums).
template <class Summand>
struct ColumnSums {
  static constexpr int kSums = Summand::kSums;
  static constexpr int kBlocksPerProcessor = Summand::kBlocksPerProcessor;
  struct Shared {
    float sum[kSums][kGroup][kThreads];  // threads last: neighbours in neighbouring banks
  };

  ColumnSums(const Summand& summand_given, std::int64_t row_count, int channel_count,
             float* partial_given)
      : summand(summand_given),
        plan(plan_sums(row_count, channel_count)),
        rows(static_cast<unsigned>(row_count)),
        channels(channel_count),
        groups(static_cast<int>(groups_of(channel_count))),
        steps(tree_steps(plan.lanes)),
        partial(partial_given) {}

  int blocks() const { return plan.tiles * plan.row_blocks; }
  RM_DEVICE int phases() const { return steps + 2; }

  RM_DEVICE void phase(int phase, int block, int thread, Shared& shared) const {
    const int lane = thread / plan.tile_groups;
    const int group = block / plan.row_blocks * plan.tile_groups + thread % plan.tile_groups;
    if (lane >= plan.lanes || group >= groups) return;
    const int row_block = block % plan.row_blocks;
    if (phase == 0) {
      walk(group, static_cast<unsigned>(row_block * plan.lanes + lane), thread, shared);
    } else if (phase <= steps) {
      add_partner(partner_distance(plan.lanes, phase - 1, lane), thread, shared);
    } else if (lane == 0) {
      write(group, row_block, thread, shared);
    }
  }

  Summand summand;
  SumPlan plan;
  unsigned rows;
  int channels, groups, steps;
  float* partial;

 private:
  RM_DEVICE void walk(int group, unsigned row, int thread, Shared& shared) const {
    const Span span = span_of<typename Summand::Access>(static_cast<unsigned>(group), channels);
    const auto of_channels = summand.begin(span);
    float sums[kSums][kGroup] = {};
    for_rows<Summand::kInFlight>(
        row, static_cast<unsigned>(plan.lanes * plan.row_blocks), rows,
        [&](unsigned r) { return summand.load(span, rows - 1 - r); },
        [&](unsigned r, const auto& values) {
          summand.add(of_channels, span, rows - 1 - r, values, sums);
        });
    RM_UNROLL
    for (int s = 0; s < kSums; ++s) {
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) shared.sum[s][i][thread] = sums[s][i];
    }
  }
  RM_DEVICE void add_partner(int lanes_away, int thread, Shared& shared) const {
    if (lanes_away == 0) return;
    RM_UNROLL
    for (int s = 0; s < kSums; ++s) {
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        shared.sum[s][i][thread] += shared.sum[s][i][thread + lanes_away * plan.tile_groups];
      }
    }
  }
  RM_DEVICE void write(int group, int row_block, int thread, const Shared& shared) const {
    const Span span = span_of<typename Summand::Access>(static_cast<unsigned>(group), channels);
    RM_UNROLL
    for (int s = 0; s < kSums; ++s) {
      const std::int64_t at = (std::int64_t{row_block} * kSums + s) * channels + span.first;
      RM_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        if (i < span.count) partial[at + i] = shared.sum[s][i][thread];
      }
    }
  }
};

// finish(channel, sums) for every channel, with the sums over all blocks in double. A Finish has:
// kSums; `sum_at[kSums]`, which of a block's `sums` they are.
template <class Finish>
struct Combination {
  static constexpr int kSums = Finish::kSums, kBlocksPerProcessor = 4;
  // 8 floats are one sector of memory; the fewer channels a block has, the more blocks there are.
  static constexpr int kChannels = 8, kLanes = kThreads / kChannels, kSteps = 5;
  static_assert(kLanes == 1 << kSteps);
  struct Shared {
    double sum[kSums][kThreads];
  };

  int blocks() const { return (channels + kChannels - 1) / kChannels; }
  RM_DEVICE int phases() const { return kSteps + 2; }

  RM_DEVICE void phase(int phase, int block, int thread, Shared& shared) const {
    const int lane = thread / kChannels, channel = block * kChannels + thread % kChannels;
    if (channel >= channels) return;
    if (phase == 0) {
      gather(lane, channel, thread, shared);
    } else if (phase <= kSteps) {
      const int away = partner_distance(kLanes, phase - 1, lane) * kChannels;
      if (away == 0) return;
      RM_UNROLL
      for (int s = 0; s < kSums; ++s) shared.sum[s][thread] += shared.sum[s][thread + away];
    } else if (lane == 0) {
      double sums[kSums];
      RM_UNROLL
      for (int s = 0; s < kSums; ++s) sums[s] = shared.sum[s][thread];
      finish(channel, sums);
    }
  }

  const float* partial;
  int row_blocks;  // that wrote `partial`
  int sums;        // of each
  int channels;
  Finish finish;

  RM_DEVICE void gather(int lane, int channel, int thread, Shared& shared) const {
    RM_UNROLL
    for (int s = 0; s < kSums; ++s) {
      const float* at = partial + std::int64_t{finish.sum_at[s]} * channels + channel;
      const std::int64_t block_stride = std::int64_t{sums} * channels;
      double sum = 0;
#ifdef __CUDACC__
#pragma unroll 4
#endif
      for (int b = lane; b < row_blocks; b += kLanes) sum += at[b * block_stride];
      shared.sum[s][thread] = sum;
    }
  }
};

}  // namespace rackmark::worker::cuda::bodies
