// What a rank tells its local agent, one JSON object a line, over the Unix socket named by
// RACKMARK_EVENTS (standard output when that is not set). All times t_ns are CLOCK_MONOTONIC.
// A line is {"type": "...", "v": 1, "rank": r, "t_ns": t, ...members of the struct}.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/json/described.hpp"
#include "common/json/json.hpp"

namespace rackmark::protocol {

inline constexpr int kWorkerEventVersion = 1;

struct BatchSearch {                        // how "max" was answered; bytes are of one worker
  std::int64_t batch_size = 0, probes = 0;  // probes: plans made without taking memory
  std::int64_t bytes_wanted = 0, bytes_free = 0;
  // Whose memory decided: "cgroup v1", "cgroup v2", "RLIMIT_AS", "MemAvailable" of the host,
  // "GPU memory" of the device, "another rank"; "" where nothing limits.
  std::string limited_by;
};
BOOST_DESCRIBE_STRUCT(BatchSearch, (), (batch_size, probes, bytes_wanted, bytes_free, limited_by))

struct HelloEvent {  // type "hello", first line of every rank
  std::int64_t ranks = 1;
  std::string host;
  std::int64_t pid = 0;
  std::string model, backend, precision;
  std::string isa;  // what the library chose: "avx512_core_vnni"
  std::string
      variable_update;  // "parameter_server (1 worker, colocated server)", "all_reduce", ...
  std::string engine_revision;
  std::map<std::string, std::string> libraries;  // onednn, openmpi, cudnn, ... -> version
  std::int64_t threads = 0, parameters = 0;
  std::int64_t arena_bytes = 0;
  double training_gflop_per_image = 0;  // 0 in inference
  double forward_gflop_per_image = 0;   // in inference without auxiliary heads, which do not run
  std::map<std::string, std::string> notes;  // what a reader should know, "int8 layers" -> words
  std::int64_t batch_size = 0;               // of one worker, as it is run
  std::optional<BatchSearch> batch_search;   // only where the spec asked for "max"
};
BOOST_DESCRIBE_STRUCT(HelloEvent, (),
                      (ranks, host, pid, model, backend, precision, isa, variable_update,
                       engine_revision, libraries, threads, parameters, arena_bytes,
                       training_gflop_per_image, forward_gflop_per_image, notes, batch_size,
                       batch_search))

struct PhaseEvent {  // type "phase": setup, warmup, measuring, collecting
  std::string phase;
  std::optional<std::int64_t> steps_planned;  // of this phase, when it is known
};
BOOST_DESCRIBE_STRUCT(PhaseEvent, (), (phase, steps_planned))

struct StepsEvent {  // type "steps", flushed every 250 ms; arrays are parallel, never a line a step
  std::string phase;            // warmup or measuring
  std::int64_t first_step = 0;  // 0-based within the phase
  std::vector<double> ms, loss, input_wait_ms, exposed_communication_ms, server_wait_ms;
};
BOOST_DESCRIBE_STRUCT(StepsEvent, (),
                      (phase, first_step, ms, loss, input_wait_ms, exposed_communication_ms,
                       server_wait_ms))

// type "telemetry", about once a second, with a GPU four times; null = not available on this host
struct TelemetryEvent {
  std::optional<double> cpu_fraction, rss_bytes, load_1min, steal_fraction;
  // Of the GPU on which this rank computes; null where resources.device is cpu. Memory: in use by
  // all processes. Clock: of the multiprocessors.
  std::optional<double> gpu_fraction, gpu_memory_bytes, power_w, temperature_c, clock_mhz,
      memory_clock_mhz;
  std::optional<double> energy_j;                              // since the driver was loaded
  std::optional<std::vector<std::string>> throttle_reasons;    // as NVML names them; empty: none
  std::optional<std::int64_t> ecc_corrected, ecc_uncorrected;  // since the driver was loaded
};
BOOST_DESCRIBE_STRUCT(TelemetryEvent, (),
                      (cpu_fraction, rss_bytes, load_1min, steal_fraction, gpu_fraction,
                       gpu_memory_bytes, power_w, temperature_c, clock_mhz, memory_clock_mhz,
                       energy_j, throttle_reasons, ecc_corrected, ecc_uncorrected))

struct GpuUse {  // of the GPU of one rank, over the measured window; null = the card does not say
  std::string uuid, name;
  std::int64_t readings = 0;
  std::optional<double> energy_j;           // from its counter
  std::optional<double> power_w;            // energy / time; without a counter mean of the readings
  std::optional<double> busy_fraction;      // mean share of time with a kernel running
  std::optional<double> peak_memory_bytes;  // in use by all processes, of the whole run
  std::optional<double> max_temperature_c, sm_clock_mhz, memory_clock_mhz;  // clocks: means
  // Median of the window's second half / median of its first second - 1; null in a window under
  // two seconds.
  std::optional<double> sm_clock_change;
  std::optional<std::map<std::string, double>> throttled;      // reason -> share of the readings
  std::optional<std::int64_t> ecc_corrected, ecc_uncorrected;  // new ones
};
BOOST_DESCRIBE_STRUCT(GpuUse, (),
                      (uuid, name, readings, energy_j, power_w, busy_fraction, peak_memory_bytes,
                       max_temperature_c, sm_clock_mhz, memory_clock_mhz, sm_clock_change,
                       throttled, ecc_corrected, ecc_uncorrected))

struct HostUse {         // of the host of one rank, over the measured window; null = not available
  std::string boot_id;   // of the kernel: ranks with the same one share processors and numbers
  double own_cpu_s = 0;  // CPU time of this rank's process
  std::optional<double> cpu_s, cpu_capacity_s;  // of all processes; of all processors
  std::optional<double> package_energy_j;       // of all CPU packages (RAPL)
  std::optional<std::string> governor_before, governor_after;  // of the frequency, at both ends
  // The CPU quota of this rank's cgroup, and CPU time for which it held the processes in it back.
  std::optional<double> quota_cpus, quota_throttled_s;
};
BOOST_DESCRIBE_STRUCT(HostUse, (),
                      (boot_id, own_cpu_s, cpu_s, cpu_capacity_s, package_energy_j, governor_before,
                       governor_after, quota_cpus, quota_throttled_s))

struct FailureEvent {  // type "failure"; reason is a name of rackmark::Reason
  std::string reason, detail, phase;
};
BOOST_DESCRIBE_STRUCT(FailureEvent, (), (reason, detail, phase))

struct OutOfMemoryEvent {  // type "out_of_memory"
  std::string model, precision;
  std::int64_t batch_size = 0;
  std::optional<std::int64_t> bytes_wanted, bytes_free;
  std::optional<std::string> limited_by;  // as of BatchSearch
};
BOOST_DESCRIBE_STRUCT(OutOfMemoryEvent, (),
                      (model, precision, batch_size, bytes_wanted, bytes_free, limited_by))

// How far int8 answers agree with fp32 ones, over pictures that calibration has not seen. Logits
// are taken less their fp32 mean over the pictures: what tells the pictures apart is what counts.
struct Agreement {
  std::int64_t pictures = 0;
  double top1 = 0;          // share of pictures with the same first class
  double cosine = 0;        // of all logits of all pictures
  double cosine_floor = 0;  // below: the run fails as verify_failed
};
BOOST_DESCRIBE_STRUCT(Agreement, (), (pictures, top1, cosine, cosine_floor))

struct ProfileRow {  // one operation of a step; median of the passes
  std::string layer, pass, implementation;
  double ms = 0, share = 0;            // share of the sum, a fraction
  std::optional<double> gflops, gbps;  // null: no arithmetic, or bytes that are not counted
  bool plain_loops = false;            // "ref:" of the library
};
BOOST_DESCRIBE_STRUCT(ProfileRow, (),
                      (layer, pass, implementation, ms, share, gflops, gbps, plain_loops))

// type "profile", of rank 0 after the measured window: a pass of its own, in which every operation
// is timed, in turns with plain steps on the same batch and with the convolution-only bound.
// Exchange between ranks and waiting for input are not in it.
struct ProfileEvent {
  std::int64_t passes = 0;
  double sum_ms = 0;   // of all rows, those left out included
  double step_ms = 0;  // median of the plain steps in between
  double sum_over_step = 0;
  std::optional<double> window_step_ms;  // median step of the measured window, waits taken off
  std::optional<double> convolution_bound_ms;     // null: the backend has none, or no memory
  std::optional<double> convolution_bound_share;  // convolution_bound_ms / step_ms
  std::vector<ProfileRow> rows;                   // in the order in which they run
  std::int64_t rows_left_out = 0;
  std::vector<std::string> warnings;  // plain loops in a hot layer
};
BOOST_DESCRIBE_STRUCT(ProfileEvent, (),
                      (passes, sum_ms, step_ms, sum_over_step, window_step_ms, convolution_bound_ms,
                       convolution_bound_share, rows, rows_left_out, warnings))

struct AllReduceTime {  // all-reduces of one size, as long as the slowest rank each
  std::int64_t ranks = 0, bytes = 0, turns = 0;
  double median_s = 0;
};
BOOST_DESCRIBE_STRUCT(AllReduceTime, (), (ranks, bytes, turns, median_s))

struct SummaryEvent {                  // type "summary", last line of a rank that did all its steps
  std::int64_t images = 0, steps = 0;  // measured ones
  std::int64_t start_ns = 0, end_ns = 0;
  std::optional<double> first_loss, final_loss;
  // Of the measured ones, those that changed nothing as gradients overflowed; null without a loss
  // scale (fp16).
  std::optional<std::int64_t> skipped_steps;
  std::optional<std::int64_t> peak_rss_bytes;
  std::optional<double> setup_s;  // process start to first warm-up step
  // Fastest matrix product in the precision of the run, measured by all ranks at once before the
  // warm-up; null where the precision is only emulated.
  std::optional<double> matrix_peak_gflops;
  std::int64_t pictures_read = 0, pictures_broken = 0;
  std::vector<std::string> broken_pictures;  // the first 20, by path inside input.path
  std::int64_t pictures_left_to_cpu = 0;     // files, with input.decode_device gpu
  std::optional<Agreement> agreement;        // int8, rank 0
  // Parameter server: how often the variables of a shard came so many steps (the index) behind this
  // worker. Of all steps, warm-up included; the last entry counts all that were further behind.
  std::vector<std::int64_t> staleness;
  // Of this network, from before the warm-up: only where the spec has `measure_collectives`, rank
  // 0.
  std::vector<AllReduceTime> all_reduce_times;
  std::optional<HostUse> host;
  std::optional<GpuUse> gpu;  // only where resources.device is gpu
};
BOOST_DESCRIBE_STRUCT(SummaryEvent, (),
                      (images, steps, start_ns, end_ns, first_loss, final_loss, skipped_steps,
                       peak_rss_bytes, setup_s, matrix_peak_gflops, pictures_read, pictures_broken,
                       broken_pictures, pictures_left_to_cpu, agreement, staleness,
                       all_reduce_times, host, gpu))

}  // namespace rackmark::protocol
