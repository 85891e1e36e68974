#include "controller/service/event_intake.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/protocol/runs.hpp"
#include "common/protocol/worker_event.hpp"
#include "controller/service/life.hpp"
#include "controller/service/views.hpp"
#include "controller/store/facts.hpp"
#include "controller/store/logs.hpp"
#include "controller/store/steps.hpp"

namespace rackmark::service {

namespace {

constexpr std::int64_t kMaximumSteps = 20'000'000;  // of a phase; a bound for memory, not for use
// A lost batch leaves a hole; one that nobody can have made would be read as so many empty steps.
constexpr std::int64_t kLargestHole = 100'000;
constexpr std::size_t kMaximumText = 8192;
constexpr std::size_t kRecentKept = 64;
constexpr std::int64_t kLargestBatch = 65536;
constexpr std::size_t kProfileRows = 2000, kMaximumProfile = std::size_t{1} << 20;

std::int64_t integer(const Json& event, const char* name, std::int64_t missing) {
  const auto member = event.find(name);
  if (member == event.end() || !member->is_number()) return missing;
  const double value = member->get<double>();
  if (!(std::abs(value) < 9e18)) return missing;
  return member->is_number_integer() ? member->get<std::int64_t>()
                                     : static_cast<std::int64_t>(value);
}

std::string text(const Json& event, const char* name) {
  const auto member = event.find(name);
  return member != event.end() && member->is_string() ? member->get<std::string>() : "";
}

// null is NaN: JSON has no other word for a diverged loss.
std::optional<std::vector<float>> floats(const Json& event, const char* name) {
  const auto member = event.find(name);
  if (member == event.end() || member->is_null()) return std::vector<float>{};
  if (!member->is_array()) return std::nullopt;
  std::vector<float> out;
  out.reserve(member->size());
  for (const Json& value : *member) {
    if (!value.is_number() && !value.is_null()) return std::nullopt;
    out.push_back(value.is_null() ? std::numeric_limits<float>::quiet_NaN()
                                  : static_cast<float>(value.get<double>()));
  }
  return out;
}

std::optional<store::StepChunk> step_chunk(const Json& event, std::int64_t rank) {
  const auto phase = rackmark::json::enum_from<store::StepPhase>(text(event, "phase"));
  if (!phase) return std::nullopt;
  store::StepChunk chunk;
  chunk.rank = rank;
  chunk.phase = *phase;
  chunk.first_step = integer(event, "first_step", -1);
  const std::pair<const char*, std::vector<float>*> members[] = {
      {"ms", &chunk.ms},
      {"loss", &chunk.loss},
      {"input_wait_ms", &chunk.input_wait_ms},
      {"exposed_communication_ms", &chunk.exposed_communication_ms},
      {"server_wait_ms", &chunk.server_wait_ms}};
  for (const auto& [name, into] : members) {
    auto values = floats(event, name);
    if (!values) return std::nullopt;
    *into = std::move(*values);
    if (!into->empty() && into->size() != chunk.ms.size()) return std::nullopt;
  }
  const auto count = static_cast<std::int64_t>(chunk.ms.size());
  if (count == 0 || chunk.first_step < 0 || chunk.first_step > kMaximumSteps - count) {
    return std::nullopt;
  }
  return chunk;
}

// steps_done is the slowest rank's; the rate is over the last 8 steps that all ranks have done.
void take_progress(Change& change, store::RunRow& run, const store::StepChunk& chunk) {
  const std::string phase = rackmark::json::enum_name(chunk.phase);
  RecentSteps& recent = change.core.memory.recent[run.id];
  if (run.phase != phase) {
    run.phase = phase;
    run.steps_planned.reset();
    run.steps_done = 0;
  }
  if (recent.phase != phase) recent = {phase, {}};
  auto& steps = recent.ms_by_rank[chunk.rank];
  for (std::size_t i = 0; i < chunk.ms.size(); ++i) {
    steps[chunk.first_step + static_cast<std::int64_t>(i)] = chunk.ms[i];
  }
  while (steps.size() > kRecentKept) steps.erase(steps.begin());
  if (!chunk.loss.empty() && chunk.rank == 0) {
    const float loss = chunk.loss.back();
    run.loss = std::isfinite(loss) ? std::optional<double>(loss) : std::nullopt;
  }
  if (static_cast<std::int64_t>(recent.ms_by_rank.size()) < run.ranks) return;
  std::int64_t done = std::numeric_limits<std::int64_t>::max();
  for (const auto& [rank, own] : recent.ms_by_rank) done = std::min(done, own.rbegin()->first + 1);
  run.steps_done = std::max(run.steps_done, done);
  std::vector<double> slowest;
  for (std::int64_t step = std::max<std::int64_t>(0, done - 8); step < done; ++step) {
    double worst = 0;
    for (const auto& [rank, own] : recent.ms_by_rank) {
      if (const auto found = own.find(step); found != own.end()) {
        worst = std::max(worst, static_cast<double>(found->second));
      }
    }
    if (worst > 0) slowest.push_back(worst);
  }
  const auto median_ms = measure::median(slowest);
  if (median_ms)
    run.images_per_second = static_cast<double>(run.images_per_step) * 1e3 / *median_ms;
}

Json live_data(const store::RunRow& run, const Json& event, std::int64_t rank) {
  Json data = event;
  data.erase("type");
  data.erase("v");
  data.erase("t_ns");
  data["run_id"] = run.id;
  data["job_id"] = run.job_id;
  data["rank"] = rank;
  return data;
}

void take_phase(store::RunRow& run, const Json& event) {
  const std::string phase = text(event, "phase");
  if (phase.empty() || phase.size() > 32 || integer(event, "rank", 0) != 0) return;
  if (run.phase != phase) run.steps_done = 0;
  run.phase = phase;
  run.steps_planned.reset();
  if (const auto planned = integer(event, "steps_planned", -1); planned >= 0) {
    run.steps_planned = planned;
  }
}

// What "max" came to is known when rank 0 says hello.
void take_batch_size(Change& change, store::RunRow& run, const Json& event) {
  const std::int64_t batch = integer(event, "batch_size", 0);
  if (run.images_per_step != 0 || batch < 1 || batch > kLargestBatch) return;
  run.images_per_step = batch * run.ranks;
  auto job = store::find_job(change.db(), run.job_id);
  job->batch_size = batch;
  store::update_job(change.tx, *job);
  change.touch_job(run.job_id);
}

// Only what decodes is kept, and no more rows than a worker sends.
void take_profile(Change& change, const store::RunRow& run, const Json& event) {
  const auto profile = json::decode<protocol::ProfileEvent>(event, json::Unknown::kIgnore);
  if (!profile || profile->rows.size() > kProfileRows) return;
  const Json data = json::encode(*profile);
  if (data.dump(-1, ' ', false, Json::error_handler_t::replace).size() > kMaximumProfile) return;
  store::add_profile(change.tx, run.id, data);
}

// Of a server its use of the host is wanted; steps and telemetry are the workers' affair.
bool is_summary_of_server(const store::RunRow& run, const std::string& type, std::int64_t rank) {
  return type == "summary" && rank >= run.ranks && rank < run.ranks + dedicated_servers_of(run);
}

void take_event(Change& change, store::RunRow& run, const Json& event) {
  if (!event.is_object()) return;
  const std::string type = text(event, "type");
  const std::int64_t rank = integer(event, "rank", -1), t_ns = integer(event, "t_ns", 0);
  if (is_summary_of_server(run, type, rank)) {
    store::add_fact(change.tx, run.id, {rank, type, t_ns, event});
  }
  if (rank < -1 || rank >= run.ranks) return;
  if (type == "steps") {
    const auto chunk = rank >= 0 ? step_chunk(event, rank) : std::nullopt;
    if (!chunk) return;
    const auto next = store::next_step(change.db(), run.id, rank, chunk->phase);
    if (chunk->first_step > next + kLargestHole) return;
    store::add_step_chunk(change.tx, run.id, *chunk);
    take_progress(change, run, *chunk);
    change.live({"steps", run.job_id, run.id, live_data(run, event, rank)});
  } else if (type == "telemetry") {
    store::add_telemetry(change.tx, run.id, {rank, type, t_ns, event});
    Json data = live_data(run, event, rank);
    data["t_ns"] = t_ns;  // tells readings apart and places them in time
    change.live({"telemetry", run.job_id, run.id, std::move(data)});
  } else if (type == "hello" || type == "phase" || type == "failure" || type == "out_of_memory" ||
             type == "summary") {
    store::add_fact(change.tx, run.id, {rank, type, t_ns, event});
    if (type == "phase") take_phase(run, event);
    if (type == "hello" && rank == 0) take_batch_size(change, run, event);
  } else if (type == "profile" && rank == 0) {
    take_profile(change, run, event);
  }
}

// Cuts at a code point: half of one would not be UTF-8.
std::string bounded(const std::string& line) {
  if (line.size() <= kMaximumText) return line;
  std::size_t end = kMaximumText;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;
  return line.substr(0, end);
}

void take_logs(Change& change, store::RunRow& run, const protocol::EventBatch& batch) {
  std::vector<store::LogRow> rows;
  if (batch.dropped > 0) {
    rows.push_back(
        {0, -1, "controller", change.now_us(),
         std::to_string(batch.dropped) + " lines were lost here: the agent's spool was full"});
  }
  for (const protocol::LogLine& line : batch.logs) {
    rows.push_back(
        {0, line.rank, line.stream.substr(0, 16), parse_rfc3339(line.at), bounded(line.text)});
  }
  if (rows.empty()) return;
  Json lines = Json::array();
  for (store::LogRow& row : rows) {
    row.number = ++run.log_lines;
    store::add_log_line(change.tx, run.id, row);
    lines.push_back(rackmark::json::encode(protocol::LogLineView{
        row.number, row.rank, row.stream, row.at_us ? rfc3339(*row.at_us) : "", row.text}));
  }
  store::bound_log(change.tx, run.id, run.log_lines);
  change.live({"logs",
               run.job_id,
               run.id,
               {{"run_id", run.id}, {"job_id", run.job_id}, {"lines", std::move(lines)}}});
}

std::vector<const protocol::EventBatch*> batches_of(const protocol::EventUpload& upload,
                                                    std::int64_t run_id) {
  std::vector<const protocol::EventBatch*> batches;
  for (const protocol::EventBatch& batch : upload.batches) {
    if (batch.run_id == run_id) batches.push_back(&batch);
  }
  std::stable_sort(batches.begin(), batches.end(),
                   [](const auto* a, const auto* b) { return a->seq < b->seq; });
  return batches;
}

// Stores what is new of one run. False: the run is not this agent's, or over.
bool take_batches(Change& change, std::int64_t agent_id, std::int64_t run_id,
                  const protocol::EventUpload& upload, protocol::EventReceipt& receipt) {
  auto run = store::find_run(change.db(), run_id);
  auto host = store::find_host(change.db(), run_id, agent_id);
  if (!run || !host) return false;
  if (is_terminal(run->state)) {
    // A repeat of what is stored is answered as such; anything else came too late.
    std::int64_t newest = 0;
    for (const auto* batch : batches_of(upload, run_id)) newest = std::max(newest, batch->seq);
    if (newest > host->accepted_seq) return false;
    receipt.accepted.push_back({run_id, host->accepted_seq});
    return true;
  }
  for (const protocol::EventBatch* batch : batches_of(upload, run_id)) {
    if (batch->seq <= host->accepted_seq) continue;   // a repeat
    if (batch->seq != host->accepted_seq + 1) break;  // a hole: the agent sends from there again
    for (const Json& event : batch->events) take_event(change, *run, event);
    take_logs(change, *run, *batch);
    host->accepted_seq = batch->seq;
    host->accepted_us = change.now_us();
    if (run->reported_state) change.core.memory.heard_ns[run_id] = change.core.clock.monotonic_ns();
  }
  store::thin_telemetry(change.tx, run_id, store::kTelemetryLive);
  store::update_host(change.tx, *host);
  store::update_run(change.tx, *run);
  receipt.accepted.push_back({run_id, host->accepted_seq});
  finish_reported(change, *run, false);
  return true;
}

}  // namespace

Result<protocol::EventReceipt> accept_events(Core& core, std::int64_t agent_id,
                                             const protocol::EventUpload& upload) {
  Change change(core);
  std::vector<std::int64_t> runs;
  for (const protocol::EventBatch& batch : upload.batches) {
    if (std::find(runs.begin(), runs.end(), batch.run_id) == runs.end()) {
      runs.push_back(batch.run_id);
    }
  }
  protocol::EventReceipt receipt;
  for (const std::int64_t run_id : runs) {
    if (!take_batches(change, agent_id, run_id, upload, receipt)) {
      receipt.refused_runs.push_back(run_id);
    }
  }
  change.finish();
  return receipt;
}

}  // namespace rackmark::service
