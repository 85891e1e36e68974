// The definitions of every number that Rackmark shows, as pure functions. `definitions()` holds the
// same sentences for the API and the web view.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace rackmark::measure {

// One rank's measured window. Clocks are the rank's own monotonic ones; all start at the same
// barrier.
struct RankWindow {
  std::int64_t images = 0;
  std::int64_t start_ns = 0, end_ns = 0;
};
// All images of all ranks / the longest (end - start), images per second. Null without a window of
// positive length or without images.
std::optional<double> headline(std::span<const RankWindow> ranks);

// Linear interpolation between closest ranks (numpy's default); q in [0, 1]. Null when empty.
std::optional<double> percentile(std::vector<double> values, double q);
std::optional<double> median(std::vector<double> values);

// Step time of the job at step i: the slowest rank's. Vectors may differ in length: the shortest
// counts.
std::vector<double> slowest_per_step(const std::vector<std::vector<double>>& ranks_ms);
// For each rank the share of steps in which it was last (ties go to the lower rank): where ranks
// wait for each other, of step times without those waits.
std::vector<double> share_last(const std::vector<std::vector<double>>& ranks_ms);

struct StepStatistics {
  std::int64_t count = 0;
  std::optional<double> mean_ms, median_ms, p50_ms, p90_ms, p95_ms, p99_ms, max_ms, min_ms;
  std::optional<double> standard_error_ms;  // sample standard deviation / sqrt(n)
  std::optional<double> jitter_ms;          // 1.4826 x median absolute deviation
  std::optional<double> variation;          // standard deviation / mean, a fraction
  std::optional<double> drift;              // median of second half / median of first half - 1
};
BOOST_DESCRIBE_STRUCT(StepStatistics, (),
                      (count, mean_ms, median_ms, p50_ms, p90_ms, p95_ms, p99_ms, max_ms, min_ms,
                       standard_error_ms, jitter_ms, variation, drift))
StepStatistics step_statistics(std::span<const double> steps_ms);

// Of single batches in inference, from having the pictures to having the logits. Percentiles are
// nearest-rank: the ceil(q n)-th shortest, a latency that was observed.
struct LatencyStatistics {
  std::int64_t count = 0;
  std::optional<double> mean_ms, p50_ms, p90_ms, p95_ms, p99_ms, max_ms;
};
BOOST_DESCRIBE_STRUCT(LatencyStatistics, (),
                      (count, mean_ms, p50_ms, p90_ms, p95_ms, p99_ms, max_ms))
LatencyStatistics latency_statistics(std::vector<double> latencies_ms);
std::optional<double> nearest_rank(std::vector<double> values, double q);  // q in (0, 1]

struct Spread {
  std::optional<double> value;  // standard error / mean, a fraction
  std::string kind;             // "runs" (over runs) or "steps" (within the one run)
};
BOOST_DESCRIBE_STRUCT(Spread, (), (value, kind))
// Headline of a job over its runs that are not invalid: median; spread over runs, or within the
// run.
struct Headline {
  std::optional<double> images_per_second;
  Spread spread;
  std::int64_t runs = 0;
};
BOOST_DESCRIBE_STRUCT(Headline, (), (images_per_second, spread, runs))
Headline job_headline(std::span<const double> runs_images_per_second,
                      const StepStatistics& only_run);

// Bytes and MAC-exact model FLOPs x img/s / the device's own measured peak; null without a peak.
std::optional<double> mfu(double training_gflop_per_image, std::optional<double> images_per_second,
                          std::optional<double> peak_gflops);

// CPU seconds that other processes than the run's used / those that all processors had; from less
// than a second of them the kernel's ticks say nothing: null.
std::optional<double> foreign_cpu_fraction(double used_s, double own_s, double capacity_s);

// Verdict on the validity of a run's numbers; causes in words. Thresholds are stated in
// definitions().
enum class Verdict { kClean, kSuspect, kInvalid };
BOOST_DESCRIBE_ENUM(Verdict, kClean, kSuspect, kInvalid)
struct Validity {
  Verdict verdict = Verdict::kClean;
  std::vector<std::string> causes;
  // What nothing was measured of, in words: "steal time", "frequency governor", ...
  std::vector<std::string> not_checked;
};
BOOST_DESCRIBE_STRUCT(Validity, (), (verdict, causes, not_checked))
struct GpuConditions {  // of one rank's GPU inside the window; absent = not available
  std::int64_t rank = 0;
  // Reason, as NVML names it -> share of the readings.
  std::optional<std::map<std::string, double>> throttled;
  std::optional<double> sm_clock_change;  // against the window's start, a fraction
  std::optional<std::int64_t> ecc_uncorrected;
};
struct Conditions {  // of a run's hosts and ranks inside the window; absent = not available
  std::optional<double> steal_fraction, foreign_cpu_fraction;
  std::optional<double> quota_throttled_fraction;  // of the CPU time that a quota grants
  std::optional<double> input_wait_fraction;  // of the step time, of the rank that waited longest
  std::optional<bool> governor_changed;
  std::vector<GpuConditions> gpus;  // of every rank where resources.device is gpu
};
Validity judge(const StepStatistics& steps, const Conditions& conditions);

// Of a job, over its runs: the worst verdict of those that its headline counts, with their causes
// ("run 12: ..." where it has several) and what was not checked in one of them. Invalid only where
// no run counts: then all tell why.
struct JudgedRun {
  std::int64_t id = 0;
  Validity validity;
};
Validity job_validity(std::span<const JudgedRun> runs);

// tf_cnn_benchmarks' own statistics over step seconds so far (metrics.md 4.1), for --output tf.
struct TfSpeed {
  double images_per_second = 0, uncertainty = 0, jitter = 0;
};
TfSpeed tf_speed(std::span<const double> step_seconds, double images_per_step);

// name -> sentence, shown on hover and in the API.
const std::map<std::string, std::string>& definitions();

}  // namespace rackmark::measure
