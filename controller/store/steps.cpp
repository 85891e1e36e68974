#include "controller/store/steps.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

namespace rackmark::store {

static_assert(std::endian::native == std::endian::little, "samples are stored little-endian");

std::string pack(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());  // null when empty
  return bytes;
}

std::vector<float> unpack(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// The same steps sent twice under another batch number (a restarted agent) change nothing.
constexpr const char* kAddChunk = R"sql(
  INSERT OR IGNORE INTO step_chunks (run_id, rank, phase, first_step, ms, loss, input_wait_ms,
                                     exposed_communication_ms, server_wait_ms)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?))sql";

void add_step_chunk(Transaction& tx, std::int64_t run_id, const StepChunk& chunk) {
  Query q(tx.db(), kAddChunk, run_id, chunk.rank, chunk.phase, chunk.first_step);
  for (const auto* values : {&chunk.ms, &chunk.loss, &chunk.input_wait_ms,
                             &chunk.exposed_communication_ms, &chunk.server_wait_ms}) {
    q.bind_blob(pack(*values));
  }
  q.run();
}

namespace {

// Puts what is chosen of `from`, which begins at step `first`, where it belongs in `into`; steps
// between that never came are NaN.
void place(std::vector<float>& into, const StepChoice& choice, std::int64_t first,
           const std::vector<float>& from) {
  if (from.empty()) return;
  const auto chosen_before = [&choice](std::int64_t step) {
    const std::int64_t steps = step - choice.first;
    return std::clamp<std::int64_t>((steps + choice.stride - 1) / choice.stride, 0, choice.limit);
  };
  const std::int64_t end = chosen_before(first + std::ssize(from));
  if (std::ssize(into) < end) {
    into.resize(static_cast<std::size_t>(end), std::numeric_limits<float>::quiet_NaN());
  }
  for (std::int64_t at = chosen_before(first); at < end; ++at) {
    const std::int64_t step = choice.first + at * choice.stride;
    into[static_cast<std::size_t>(at)] = from[static_cast<std::size_t>(step - first)];
  }
}

constexpr const char* kListChunks = R"sql(
  SELECT rank, phase, first_step, ms, loss, input_wait_ms, exposed_communication_ms,
         server_wait_ms
  FROM step_chunks WHERE run_id = ? ORDER BY rank, phase, first_step)sql";

std::vector<RankSamples> from_chunks(Database& db, std::int64_t run_id,
                                     const StepChoice& warmup = {},
                                     const StepChoice& measured = {}) {
  std::map<std::int64_t, RankSamples> ranks;
  Query q(db, kListChunks, run_id);
  while (q.step()) {
    std::int64_t rank = 0, first = 0;
    StepPhase phase{};
    q.read(rank, phase, first);
    RankSamples& samples = ranks[rank];
    samples.rank = rank;
    if (phase == StepPhase::kWarmup) {
      place(samples.warmup_ms, warmup, first, unpack(q.blob(3)));
      place(samples.warmup_loss, warmup, first, unpack(q.blob(4)));
      continue;
    }
    place(samples.ms, measured, first, unpack(q.blob(3)));
    place(samples.loss, measured, first, unpack(q.blob(4)));
    place(samples.input_wait_ms, measured, first, unpack(q.blob(5)));
    place(samples.exposed_communication_ms, measured, first, unpack(q.blob(6)));
    place(samples.server_wait_ms, measured, first, unpack(q.blob(7)));
  }
  std::vector<RankSamples> out;
  for (auto& [rank, samples] : ranks) out.push_back(std::move(samples));
  return out;
}

constexpr const char* kListSamples = R"sql(
  SELECT rank, warmup_ms, warmup_loss, ms, loss, input_wait_ms, exposed_communication_ms,
         server_wait_ms
  FROM step_samples WHERE run_id = ? ORDER BY rank)sql";

}  // namespace

std::vector<RankSamples> list_samples(Database& db, std::int64_t run_id, const StepChoice& warmup,
                                      const StepChoice& measured) {
  std::vector<RankSamples> out;
  Query q(db, kListSamples, run_id);
  while (q.step()) {
    RankSamples& samples = out.emplace_back();
    q.read(samples.rank);
    int column = 1;
    for (auto* values :
         {&samples.warmup_ms, &samples.warmup_loss, &samples.ms, &samples.loss,
          &samples.input_wait_ms, &samples.exposed_communication_ms, &samples.server_wait_ms}) {
      place(*values, column <= 2 ? warmup : measured, 0, unpack(q.blob(column)));
      ++column;
    }
  }
  return out.empty() ? from_chunks(db, run_id, warmup, measured) : out;
}

constexpr const char* kNextStep = R"sql(
  SELECT first_step + length(ms) / 4 FROM step_chunks
  WHERE run_id = ? AND rank = ? AND phase = ? ORDER BY first_step DESC LIMIT 1)sql";

std::int64_t next_step(Database& db, std::int64_t run_id, std::int64_t rank, StepPhase phase) {
  Query q(db, kNextStep, run_id, rank, phase);
  std::int64_t next = 0;
  if (q.step()) q.read(next);
  return next;
}

constexpr const char* kCountSamples = R"sql(
  SELECT count(*), coalesce(max(length(warmup_ms)) / 4, 0), coalesce(max(length(ms)) / 4, 0)
  FROM step_samples WHERE run_id = ?)sql";

constexpr const char* kCountChunks = R"sql(
  SELECT count(DISTINCT rank),
         coalesce(max(CASE phase WHEN 'warmup' THEN first_step + length(ms) / 4 END), 0),
         coalesce(max(CASE phase WHEN 'measuring' THEN first_step + length(ms) / 4 END), 0)
  FROM step_chunks WHERE run_id = ?)sql";

StepCounts count_steps(Database& db, std::int64_t run_id) {
  StepCounts counts;
  for (const char* of_a_run : {kCountSamples, kCountChunks}) {  // that is over, under way
    Query q(db, of_a_run, run_id);
    if (q.step()) q.read(counts.ranks, counts.warmup, counts.measured);
    if (counts.ranks > 0) break;
  }
  return counts;
}

constexpr const char* kAddSamples = R"sql(
  INSERT INTO step_samples (run_id, rank, warmup_ms, warmup_loss, ms, loss, input_wait_ms,
                            exposed_communication_ms, server_wait_ms)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?))sql";

constexpr const char* kDropChunks = "DELETE FROM step_chunks WHERE run_id = ?";

void compact_samples(Transaction& tx, std::int64_t run_id) {
  for (const RankSamples& samples : from_chunks(tx.db(), run_id)) {
    Query q(tx.db(), kAddSamples, run_id, samples.rank);
    for (const auto* values :
         {&samples.warmup_ms, &samples.warmup_loss, &samples.ms, &samples.loss,
          &samples.input_wait_ms, &samples.exposed_communication_ms, &samples.server_wait_ms}) {
      q.bind_blob(pack(*values));
    }
    q.run();
  }
  Query(tx.db(), kDropChunks, run_id).run();
}

}  // namespace rackmark::store
