#include "controller/store/steps.hpp"

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

// Puts `from` at `first` of `into`; steps between that never came are NaN.
void place(std::vector<float>& into, std::size_t first, const std::vector<float>& from) {
  if (from.empty()) return;
  if (into.size() < first + from.size()) {
    into.resize(first + from.size(), std::numeric_limits<float>::quiet_NaN());
  }
  std::copy(from.begin(), from.end(), into.begin() + static_cast<std::ptrdiff_t>(first));
}

constexpr const char* kListChunks = R"sql(
  SELECT rank, phase, first_step, ms, loss, input_wait_ms, exposed_communication_ms,
         server_wait_ms
  FROM step_chunks WHERE run_id = ? ORDER BY rank, phase, first_step)sql";

std::vector<RankSamples> from_chunks(Database& db, std::int64_t run_id) {
  std::map<std::int64_t, RankSamples> ranks;
  Query q(db, kListChunks, run_id);
  while (q.step()) {
    std::int64_t rank = 0, first_step = 0;
    StepPhase phase{};
    q.read(rank, phase, first_step);
    const auto first = static_cast<std::size_t>(first_step);
    RankSamples& samples = ranks[rank];
    samples.rank = rank;
    if (phase == StepPhase::kWarmup) {
      place(samples.warmup_ms, first, unpack(q.blob(3)));
      place(samples.warmup_loss, first, unpack(q.blob(4)));
      continue;
    }
    place(samples.ms, first, unpack(q.blob(3)));
    place(samples.loss, first, unpack(q.blob(4)));
    place(samples.input_wait_ms, first, unpack(q.blob(5)));
    place(samples.exposed_communication_ms, first, unpack(q.blob(6)));
    place(samples.server_wait_ms, first, unpack(q.blob(7)));
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

std::vector<RankSamples> list_samples(Database& db, std::int64_t run_id) {
  std::vector<RankSamples> out;
  Query q(db, kListSamples, run_id);
  while (q.step()) {
    RankSamples& samples = out.emplace_back();
    q.read(samples.rank);
    int column = 1;
    for (auto* values :
         {&samples.warmup_ms, &samples.warmup_loss, &samples.ms, &samples.loss,
          &samples.input_wait_ms, &samples.exposed_communication_ms, &samples.server_wait_ms}) {
      *values = unpack(q.blob(column++));
    }
  }
  return out.empty() ? from_chunks(db, run_id) : out;
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
