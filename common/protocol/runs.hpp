// Runs: one attempt of one repetition of a job. Steps, logs, transitions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/run_state.hpp"
#include "common/json/described.hpp"
#include "common/json/json.hpp"
#include "common/measure/statistics.hpp"
#include "common/protocol/endpoint.hpp"
#include "common/protocol/worker_event.hpp"

namespace rackmark::protocol {

struct TransitionView {
  std::string state, actor, at;
  std::optional<std::string> agent_at;  // the agent's own clock, beside ours
  std::string reason, detail;
};
BOOST_DESCRIBE_STRUCT(TransitionView, (), (state, actor, at, agent_at, reason, detail))

struct RunProgress {  // live; from the event batches seen so far
  std::string phase;
  std::int64_t steps_done = 0;  // of this phase, slowest rank
  std::optional<std::int64_t> steps_planned;
  std::optional<double> images_per_second;  // recent: median of the last 8 slowest-rank steps
  std::optional<double> loss;
};
BOOST_DESCRIBE_STRUCT(RunProgress, (), (phase, steps_done, steps_planned, images_per_second, loss))

struct RankTime {  // measured window, per rank; milliseconds are means per step
  std::int64_t rank = 0;
  std::string host;
  double step_ms = 0, input_wait_ms = 0, compute_ms = 0, exposed_communication_ms = 0,
         server_wait_ms = 0;
  double share_last = 0;  // share of steps in which this rank was the last one
  // Parameter server: how often the variables of a shard came so many steps (the index) behind this
  // rank; warm-up included. Empty otherwise.
  std::vector<std::int64_t> staleness;
  // Measured steps that changed nothing as gradients overflowed; null without a loss scale (fp16).
  std::optional<std::int64_t> skipped_steps;
  std::optional<GpuUse> gpu;  // null where resources.device is cpu, or without NVIDIA's NVML
};
BOOST_DESCRIBE_STRUCT(RankTime, (),
                      (rank, host, step_ms, input_wait_ms, compute_ms, exposed_communication_ms,
                       server_wait_ms, share_last, staleness, skipped_steps, gpu))

struct InferenceView {                                // of a result in mode inference
  std::int64_t instances = 1;                         // on each host
  std::optional<measure::LatencyStatistics> latency;  // null where batches overlap: input.overlap
  std::optional<Agreement> agreement;                 // int8 with fp32
  std::map<std::string, std::string> notes;           // of the plan: which layers are int8, and how
};
BOOST_DESCRIBE_STRUCT(InferenceView, (), (instances, latency, agreement, notes))

struct ResultView {  // only of a run that succeeded
  std::int64_t id = 0, run_id = 0, job_id = 0, agent_id = 0;
  std::string job_name, agent, device_class, fingerprint, created_at;
  std::string model, mode, precision, device, input_kind, backend;
  std::string variable_update;  // of the spec; "" in inference
  // How the workers carried it out: "parameter_server (1 worker, colocated server)"; "" in
  // inference.
  std::string exchange;
  std::int64_t batch_size = 0, image_size = 0, ranks = 0, threads_per_worker = 0, repetition = 1,
               attempt = 1;
  std::int64_t images = 0, steps = 0;
  double images_per_second = 0, window_s = 0;
  measure::StepStatistics step;
  measure::Validity validity;
  std::optional<double> first_loss, final_loss, mfu, setup_s;
  std::optional<double> matrix_peak_gflops;       // of all ranks together, measured in this run
  std::optional<double> convolution_bound_share;  // null unless the run was profiled
  std::optional<BatchSearch> batch_search;        // null unless batch_size was "max"
  std::optional<std::int64_t> peak_rss_bytes;
  std::optional<double> peak_gpu_memory_bytes;  // of one GPU; null on cpu
  std::optional<double> power_w, joules_per_image,
      images_per_second_per_watt;  // null: no power counter
  std::int64_t pictures_broken = 0;
  std::vector<std::string> broken_pictures;
  // Files that the GPU did not decode; null unless input.decode_device is gpu.
  std::optional<std::int64_t> pictures_left_to_cpu;
  std::vector<RankTime> rank_times;
  std::vector<AllReduceTime> all_reduce_times;  // of the network; empty unless the spec asks for it
  std::optional<InferenceView> inference;       // null in other modes
  nlohmann::json environment;  // hello of rank 0, agent inventory, versions, engine revision
};
BOOST_DESCRIBE_STRUCT(ResultView, (),
                      (id, run_id, job_id, agent_id, job_name, agent, device_class, fingerprint,
                       created_at, model, mode, precision, device, variable_update, exchange,
                       input_kind, backend, batch_size, image_size, ranks, threads_per_worker,
                       repetition, attempt, images, steps, images_per_second, window_s, step,
                       validity, first_loss, final_loss, mfu, setup_s, matrix_peak_gflops,
                       convolution_bound_share, batch_search, peak_rss_bytes, peak_gpu_memory_bytes,
                       power_w, joules_per_image, images_per_second_per_watt, pictures_broken,
                       broken_pictures, pictures_left_to_cpu, rank_times, all_reduce_times,
                       inference, environment))

struct RunHostView {  // one agent of a run and what is on it
  std::int64_t agent_id = 0;
  std::string agent;
  std::int64_t first_rank = 0, ranks = 0;  // the workers here
  std::int64_t servers = 0;                // processes here that only serve variables
  std::optional<RunState> ended;           // how the run ended on this agent; null: it has not said
  std::string detail;
};
BOOST_DESCRIBE_STRUCT(RunHostView, (), (agent_id, agent, first_rank, ranks, servers, ended, detail))

struct RunView {
  std::int64_t id = 0, job_id = 0, repetition = 1, attempt = 1;
  RunState state = RunState::kReserved;
  Reason reason = Reason::kNone;
  std::string detail;
  std::optional<std::int64_t> agent_id;
  std::string agent, device_class;  // agent: the head, which starts the others
  std::vector<RunHostView> hosts;   // head first
  std::string network;              // on which they talk; "" with one host
  std::string created_at;
  std::optional<std::string> started_at, ended_at;
  std::optional<std::int64_t> exit_code;
  nlohmann::json memory;  // OutOfMemoryEvent
  RunProgress progress;
  nlohmann::json spec;  // as this run has it: with what depends on the host, as workers and threads
  std::vector<TransitionView> transitions;
  std::optional<ResultView> result;  // null unless succeeded
};
BOOST_DESCRIBE_STRUCT(RunView, (),
                      (id, job_id, repetition, attempt, state, reason, detail, agent_id, agent,
                       device_class, hosts, network, created_at, started_at, ended_at, exit_code,
                       memory, progress, spec, transitions, result))

struct RankSteps {
  std::int64_t rank = 0;
  std::vector<double> ms, loss, input_wait_ms, exposed_communication_ms,
      server_wait_ms;  // measured steps
  std::vector<double> warmup_ms, warmup_loss;
};
BOOST_DESCRIBE_STRUCT(RankSteps, (),
                      (rank, ms, loss, input_wait_ms, exposed_communication_ms, server_wait_ms,
                       warmup_ms, warmup_loss))
struct StepsQuery {
  // With `from` consecutive steps of each phase, from this one on; without, the whole run, of which
  // every stride-th step comes where there are more than `limit`.
  std::optional<std::int64_t> from;
  // Steps of one rank and phase, 1 to 100000; of all ranks together at most 400000 a phase.
  std::int64_t limit = 10'000;
};
BOOST_DESCRIBE_STRUCT(StepsQuery, (), (from, limit))
struct StepsView {
  std::int64_t run_id = 0, images_per_step = 0;  // of all ranks together
  std::int64_t steps = 0, warmup_steps = 0;      // that there are, of the rank with most
  std::int64_t stride = 1, warmup_stride = 1;    // between two steps that are here
  std::vector<RankSteps> ranks;
  std::vector<nlohmann::json> telemetry;  // telemetry events, oldest first, thinned to 600
};
BOOST_DESCRIBE_STRUCT(StepsView, (),
                      (run_id, images_per_step, steps, warmup_steps, stride, warmup_stride, ranks,
                       telemetry))

struct ProfileView {
  std::int64_t run_id = 0;
  ProfileEvent profile;  // as rank 0 measured it after the window
};
BOOST_DESCRIBE_STRUCT(ProfileView, (), (run_id, profile))

struct LogQuery {
  std::int64_t after = 0;            // line number; pages are at most `limit` lines
  std::int64_t limit = 1000;         // 1 to 10000
  std::optional<std::int64_t> tail;  // instead: the last n lines
};
BOOST_DESCRIBE_STRUCT(LogQuery, (), (after, limit, tail))
struct LogLineView {
  std::int64_t number = 0, rank = -1;
  std::string stream, at, text;
};
BOOST_DESCRIBE_STRUCT(LogLineView, (), (number, rank, stream, at, text))
struct LogPage {
  std::int64_t run_id = 0;
  std::vector<LogLineView> lines;
  std::int64_t last_number = 0;  // ask again with after = this
  bool complete = false;         // the run is over and these are the last
};
BOOST_DESCRIBE_STRUCT(LogPage, (), (run_id, lines, last_number, complete))

struct ResultQuery {
  std::optional<std::string> model, mode, precision, device_class, agent, fingerprint, input_kind;
  std::optional<std::int64_t> batch_size, job;
  std::optional<std::string> since, until;  // RFC 3339
  std::optional<std::string> cursor;
  std::int64_t limit = 100;  // 1 to 1000
};
BOOST_DESCRIBE_STRUCT(ResultQuery, (),
                      (model, mode, precision, device_class, agent, fingerprint, input_kind,
                       batch_size, job, since, until, cursor, limit))
struct ResultPage {
  std::vector<ResultView> items;  // newest first
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(ResultPage, (), (items, next_cursor))

inline constexpr Endpoint<Nothing, RunView> kShowRun{Verb::kGet, "/api/v1/runs/{id}", "One run"};
inline constexpr Endpoint<Nothing, StepsView, StepsQuery> kRunSteps{
    Verb::kGet, "/api/v1/runs/{id}/steps",
    "Step times, losses and waits of every rank, thinned or in pages"};
inline constexpr Endpoint<Nothing, ProfileView> kRunProfile{
    Verb::kGet, "/api/v1/runs/{id}/profile",
    "Times of every layer, from a separate pass after the measured window"};
inline constexpr Endpoint<Nothing, LogPage, LogQuery> kRunLogs{Verb::kGet, "/api/v1/runs/{id}/logs",
                                                               "Log lines of a run, by number"};
inline constexpr Endpoint<Nothing, ResultPage, ResultQuery> kListResults{
    Verb::kGet, "/api/v1/results", "Results with filters, newest first"};

}  // namespace rackmark::protocol
