// Step samples of runs. Under way: a row per accepted batch, rank and phase (an append that a kill
// cannot tear). At the end: one row per (run, rank), packed little-endian float32, NaN for none.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "controller/store/transaction.hpp"

namespace rackmark::store {

enum class StepPhase { kWarmup, kMeasuring };
BOOST_DESCRIBE_ENUM(StepPhase, kWarmup, kMeasuring)

// Steps first_step, first_step + 1, ... of one rank. The vectors beside `ms` are as long as it, or
// empty where the rank sent none.
struct StepChunk {
  std::int64_t rank = 0;
  StepPhase phase = StepPhase::kMeasuring;
  std::int64_t first_step = 0;
  std::vector<float> ms, loss, input_wait_ms, exposed_communication_ms, server_wait_ms;
};

struct RankSamples {
  std::int64_t rank = 0;
  std::vector<float> warmup_ms, warmup_loss;
  std::vector<float> ms, loss, input_wait_ms, exposed_communication_ms, server_wait_ms;
};

// Of the steps of a rank and phase `first`, `first` + `stride` and so on, at most `limit`.
struct StepChoice {
  std::int64_t first = 0, stride = 1, limit = std::numeric_limits<std::int64_t>::max();
};

struct StepCounts {  // steps of the rank with most, including any that never came
  std::int64_t ranks = 0, warmup = 0, measured = 0;
};

void add_step_chunk(Transaction& tx, std::int64_t run_id, const StepChunk& chunk);
// The step after the last one of this rank that has come; of a run under way.
std::int64_t next_step(Database& db, std::int64_t run_id, std::int64_t rank, StepPhase phase);
StepCounts count_steps(Database& db, std::int64_t run_id);
// Of a run under way or over, by rank. Steps that never came within a rank's reach are NaN.
std::vector<RankSamples> list_samples(Database& db, std::int64_t run_id,
                                      const StepChoice& warmup = {},
                                      const StepChoice& measured = {});
void compact_samples(Transaction& tx, std::int64_t run_id);

std::string pack(const std::vector<float>& values);
std::vector<float> unpack(const std::string& bytes);

}  // namespace rackmark::store
