#include "common/measure/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace rackmark::measure {
namespace {

constexpr double kScaledMad = 1.4826;  // makes the median absolute deviation a sigma of a normal

constexpr double kMaxDrift = 0.05, kMaxVariation = 0.20, kMaxSteal = 0.02, kMaxForeignCpu = 0.05,
                 kMaxClockFall = 0.05, kMaxInputWait = 0.10, kMaxThrottled = 0.02;
constexpr std::int64_t kFewSteps = 5;

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double squares_around(std::span<const double> values, double mean) {
  double sum = 0;
  for (const double v : values) sum += (v - mean) * (v - mean);
  return sum;
}

// n - 1 in the divisor; nothing from fewer than two values.
std::optional<double> sample_deviation(std::span<const double> values) {
  if (values.size() < 2) return std::nullopt;
  return std::sqrt(squares_around(values, mean_of(values)) /
                   static_cast<double>(values.size() - 1));
}

double scaled_mad(std::span<const double> values) {
  const double middle = *median({values.begin(), values.end()});
  std::vector<double> distances;
  distances.reserve(values.size());
  for (const double v : values) distances.push_back(std::abs(v - middle));
  return kScaledMad * *median(std::move(distances));
}

// Of sorted values.
double interpolated(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

std::size_t shortest(const std::vector<std::vector<double>>& ranks) {
  std::size_t length = ranks.empty() ? 0 : ranks.front().size();
  for (const auto& rank : ranks) length = std::min(length, rank.size());
  return length;
}

// `format` takes one percentage.
std::string with_percent(const char* format, double fraction) {
  char text[96];
  std::snprintf(text, sizeof text, format, fraction * 100);
  return text;
}

// Reasons to run slower that the card did not choose for its power limit's sake, which every busy
// card does.
const std::map<std::string, const char*>& slow_downs() {
  static const std::map<std::string, const char*> reasons = {
      {"sw_thermal_slowdown", "by heat"},
      {"hw_thermal_slowdown", "by heat, to half or less,"},
      {"hw_power_brake_slowdown", "by the power brake"},
      {"hw_slowdown", "by heat or the power brake"}};
  return reasons;
}

void judge_gpu(const GpuConditions& gpu, Validity& out) {
  const std::string who = "the GPU of rank " + std::to_string(gpu.rank);
  const auto add = [&](Verdict verdict, const std::string& what) {
    out.verdict = std::max(out.verdict, verdict);
    out.causes.push_back(who + " " + what);
  };
  for (const auto& [reason, share] : gpu.throttled.value_or(std::map<std::string, double>{})) {
    const auto known = slow_downs().find(reason);
    if (known == slow_downs().end() || !(share > 0)) continue;
    add(Verdict::kSuspect, std::string("was slowed down ") + known->second +
                               with_percent(" in %.1f %% of the readings", share) + " (" + reason +
                               ")");
  }
  if (gpu.sm_clock_change && *gpu.sm_clock_change < -kMaxClockFall) {
    add(Verdict::kSuspect,
        with_percent("lost %.1f %% of its clock inside the window", -*gpu.sm_clock_change));
  }
  if (gpu.ecc_uncorrected && *gpu.ecc_uncorrected > 0) {
    add(Verdict::kInvalid,
        "had " + std::to_string(*gpu.ecc_uncorrected) + " uncorrected memory errors (ECC)");
  }
}

std::vector<std::string> not_checked(const Conditions& conditions) {
  std::vector<std::string> names;
  const auto add_unless = [&names](bool checked, const char* name) {
    if (!checked) names.emplace_back(name);
  };
  const auto all_gpus = [&conditions](const auto& member) {
    return std::all_of(conditions.gpus.begin(), conditions.gpus.end(),
                       [&](const GpuConditions& gpu) { return (gpu.*member).has_value(); });
  };
  add_unless(conditions.steal_fraction.has_value(), "steal time");
  add_unless(conditions.foreign_cpu_fraction.has_value(), "other processes");
  add_unless(conditions.input_wait_fraction.has_value(), "waiting for pictures");
  add_unless(conditions.governor_changed.has_value(), "frequency governor");
  add_unless(all_gpus(&GpuConditions::throttled), "slow-downs of GPUs");
  add_unless(all_gpus(&GpuConditions::sm_clock_change), "clocks of GPUs");
  add_unless(all_gpus(&GpuConditions::ecc_uncorrected), "memory errors of GPUs");
  return names;
}

}  // namespace

std::optional<double> headline(std::span<const RankWindow> ranks) {
  std::int64_t images = 0, longest_ns = 0;
  for (const auto& rank : ranks) {
    images += rank.images;
    longest_ns = std::max(longest_ns, rank.end_ns - rank.start_ns);
  }
  if (images <= 0 || longest_ns <= 0) return std::nullopt;
  return static_cast<double>(images) * 1e9 / static_cast<double>(longest_ns);
}

std::optional<double> percentile(std::vector<double> values, double q) {
  if (values.empty() || !(q >= 0 && q <= 1)) return std::nullopt;
  std::sort(values.begin(), values.end());
  return interpolated(values, q);
}

std::optional<double> median(std::vector<double> values) {
  return percentile(std::move(values), 0.5);
}

std::optional<double> nearest_rank(std::vector<double> values, double q) {
  if (values.empty() || !(q > 0 && q <= 1)) return std::nullopt;
  const auto rank =
      static_cast<std::ptrdiff_t>(std::ceil(q * static_cast<double>(values.size()))) - 1;
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<std::size_t>(rank)];
}

LatencyStatistics latency_statistics(std::vector<double> latencies_ms) {
  LatencyStatistics out;
  out.count = static_cast<std::int64_t>(latencies_ms.size());
  if (latencies_ms.empty()) return out;
  out.mean_ms = mean_of(latencies_ms);
  out.p50_ms = nearest_rank(latencies_ms, 0.5);
  out.p90_ms = nearest_rank(latencies_ms, 0.9);
  out.p95_ms = nearest_rank(latencies_ms, 0.95);
  out.p99_ms = nearest_rank(latencies_ms, 0.99);
  out.max_ms = nearest_rank(std::move(latencies_ms), 1);
  return out;
}

std::vector<double> slowest_per_step(const std::vector<std::vector<double>>& ranks_ms) {
  std::vector<double> slowest(shortest(ranks_ms), 0);
  for (const auto& rank : ranks_ms) {
    for (std::size_t i = 0; i < slowest.size(); ++i) slowest[i] = std::max(slowest[i], rank[i]);
  }
  return slowest;
}

std::vector<double> share_last(const std::vector<std::vector<double>>& ranks_ms) {
  std::vector<double> shares(ranks_ms.size(), 0);
  const std::size_t steps = shortest(ranks_ms);
  for (std::size_t i = 0; i < steps; ++i) {
    std::size_t last = 0;
    for (std::size_t rank = 1; rank < ranks_ms.size(); ++rank) {
      if (ranks_ms[rank][i] > ranks_ms[last][i]) last = rank;
    }
    shares[last] += 1.0 / static_cast<double>(steps);
  }
  return shares;
}

StepStatistics step_statistics(std::span<const double> steps_ms) {
  StepStatistics out;
  out.count = static_cast<std::int64_t>(steps_ms.size());
  if (steps_ms.empty()) return out;
  std::vector<double> sorted(steps_ms.begin(), steps_ms.end());
  std::sort(sorted.begin(), sorted.end());
  out.mean_ms = mean_of(steps_ms);
  out.median_ms = out.p50_ms = interpolated(sorted, 0.5);
  out.p90_ms = interpolated(sorted, 0.9);
  out.p95_ms = interpolated(sorted, 0.95);
  out.p99_ms = interpolated(sorted, 0.99);
  out.min_ms = sorted.front();
  out.max_ms = sorted.back();
  out.jitter_ms = scaled_mad(steps_ms);
  if (const auto deviation = sample_deviation(steps_ms)) {
    out.standard_error_ms = *deviation / std::sqrt(static_cast<double>(steps_ms.size()));
    if (*out.mean_ms > 0) out.variation = *deviation / *out.mean_ms;
    // An odd step in the middle belongs to neither half.
    const std::size_t half = steps_ms.size() / 2;
    const double first = *median({steps_ms.begin(), steps_ms.begin() + half});
    const double second = *median({steps_ms.end() - half, steps_ms.end()});
    if (first > 0) out.drift = second / first - 1;
  }
  return out;
}

Headline job_headline(std::span<const double> runs_images_per_second,
                      const StepStatistics& only_run) {
  Headline out;
  out.runs = static_cast<std::int64_t>(runs_images_per_second.size());
  if (runs_images_per_second.empty()) return out;
  out.images_per_second = median({runs_images_per_second.begin(), runs_images_per_second.end()});
  if (runs_images_per_second.size() == 1) {
    out.spread.kind = "steps";
    if (only_run.standard_error_ms && only_run.mean_ms && *only_run.mean_ms > 0) {
      out.spread.value = *only_run.standard_error_ms / *only_run.mean_ms;
    }
    return out;
  }
  out.spread.kind = "runs";
  const double mean = mean_of(runs_images_per_second);
  if (mean > 0) {
    out.spread.value = *sample_deviation(runs_images_per_second) /
                       std::sqrt(static_cast<double>(runs_images_per_second.size())) / mean;
  }
  return out;
}

std::optional<double> mfu(double training_gflop_per_image, std::optional<double> images_per_second,
                          std::optional<double> peak_gflops) {
  if (!images_per_second || !peak_gflops || !(*peak_gflops > 0) ||
      !(training_gflop_per_image > 0)) {
    return std::nullopt;
  }
  return training_gflop_per_image * *images_per_second / *peak_gflops;
}

std::optional<double> foreign_cpu_fraction(double used_s, double own_s, double capacity_s) {
  if (!(capacity_s >= 1)) return std::nullopt;
  return std::clamp((used_s - own_s) / capacity_s, 0.0, 1.0);
}

Validity judge(const StepStatistics& steps, const Conditions& conditions) {
  Validity out;
  const bool positive = steps.mean_ms && std::isfinite(*steps.mean_ms) && *steps.mean_ms > 0;
  if (steps.count == 0 || !positive) {
    out.verdict = Verdict::kInvalid;
    out.causes.emplace_back(steps.count == 0 ? "no measured steps"
                                             : "step times are not positive numbers");
    return out;
  }
  const auto suspect = [&out](std::string_view cause) {
    out.verdict = Verdict::kSuspect;
    out.causes.emplace_back(cause);
  };
  out.not_checked = not_checked(conditions);
  if (steps.count < kFewSteps) suspect("few steps: " + std::to_string(steps.count));
  // From fewer steps neither half says anything.
  if (steps.count >= kFewSteps && steps.drift && std::abs(*steps.drift) > kMaxDrift) {
    suspect(with_percent("step time drifted by %.1f %% inside the window", *steps.drift));
  }
  if (steps.variation && *steps.variation > kMaxVariation) {
    suspect(with_percent("step time varied by %.1f %%", *steps.variation));
  }
  if (conditions.steal_fraction && *conditions.steal_fraction > kMaxSteal) {
    suspect(
        with_percent("the hypervisor took %.1f %% of the CPU time", *conditions.steal_fraction));
  }
  if (conditions.foreign_cpu_fraction && *conditions.foreign_cpu_fraction > kMaxForeignCpu) {
    suspect(with_percent("other processes used %.1f %% of the CPU time",
                         *conditions.foreign_cpu_fraction));
  }
  if (conditions.quota_throttled_fraction && *conditions.quota_throttled_fraction > kMaxThrottled) {
    suspect(with_percent("a CPU quota held processes back for %.1f %% of the time that it grants",
                         *conditions.quota_throttled_fraction));
  }
  if (conditions.input_wait_fraction && *conditions.input_wait_fraction > kMaxInputWait) {
    suspect(with_percent("waiting for pictures took %.1f %% of the step time",
                         *conditions.input_wait_fraction));
  }
  if (conditions.governor_changed.value_or(false))
    suspect("the frequency governor changed during the run");
  for (const GpuConditions& gpu : conditions.gpus) judge_gpu(gpu, out);
  return out;
}

Validity job_validity(std::span<const JudgedRun> runs) {
  const auto counts = [](const JudgedRun& run) {
    return run.validity.verdict != Verdict::kInvalid;
  };
  const bool any_counts = std::any_of(runs.begin(), runs.end(), counts);
  Validity out;
  for (const JudgedRun& run : runs) {
    if (counts(run) != any_counts) continue;
    out.verdict = std::max(out.verdict, run.validity.verdict);
    const std::string whose = runs.size() > 1 ? "run " + std::to_string(run.id) + ": " : "";
    for (const std::string& cause : run.validity.causes) out.causes.push_back(whose + cause);
    for (const std::string& name : run.validity.not_checked) {
      const auto known = std::find(out.not_checked.begin(), out.not_checked.end(), name);
      if (known == out.not_checked.end()) out.not_checked.push_back(name);
    }
  }
  return out;
}

TfSpeed tf_speed(std::span<const double> step_seconds, double images_per_step) {
  if (step_seconds.empty()) return {};
  std::vector<double> rates;
  rates.reserve(step_seconds.size());
  for (const double seconds : step_seconds) {
    rates.push_back(seconds > 0 ? images_per_step / seconds : 0);
  }
  TfSpeed out;
  const double mean_s = mean_of(step_seconds);
  out.images_per_second = mean_s > 0 ? images_per_step / mean_s : 0;
  const auto n = static_cast<double>(rates.size());
  out.uncertainty = std::sqrt(squares_around(rates, mean_of(rates)) / n) / std::sqrt(n);
  out.jitter = scaled_mad(rates);
  return out;
}

const std::map<std::string, std::string>& definitions() {
  static const std::map<std::string, std::string> sentences = {
      {"images_per_second",
       "All images of all ranks divided by the longest measured window of a rank (end - start on "
       "its own monotonic clock; all start at the same barrier). Of a job: the median over its "
       "runs that are not invalid."},
      {"spread",
       "Standard error divided by the mean, a fraction: over runs when there is more than one, "
       "else over the steps of the one run."},
      {"step_ms", "Step time of a job at step i is the slowest rank's, in milliseconds."},
      {"mean_ms", "Arithmetic mean of the measured step times."},
      {"median_ms", "Middle of the measured step times."},
      {"p50_ms", "The same as the median."},
      {"p90_ms", "Nine of ten steps took at most this long; linear between neighbours."},
      {"p95_ms", "19 of 20 steps took at most this long; linear between neighbours."},
      {"p99_ms", "99 of 100 steps took at most this long; linear between neighbours."},
      {"max_ms", "The longest measured step."},
      {"min_ms", "The shortest measured step."},
      {"standard_error_ms",
       "Sample standard deviation of the step times (divisor n - 1) divided by the square root of "
       "n."},
      {"jitter_ms", "1.4826 times the median distance of a step time from the median."},
      {"variation", "Standard deviation of the step times divided by their mean, a fraction."},
      {"drift",
       "Median step time of the second half of the window divided by that of the first half, "
       "minus 1."},
      {"share_last",
       "Share of the steps in which this rank was last: its step time without its waits for other "
       "ranks was the longest; ties go to the lower rank."},
      {"staleness",
       "Parameter server: how many steps the slowest worker was behind this one in the variables "
       "that it was given, counted for every shard and step, warm-up included."},
      {"input_wait_ms", "Mean time per step in which computing waited for pictures."},
      {"compute_ms", "Mean time per step that is none of the waits."},
      {"exposed_communication_ms",
       "Mean time per step spent exchanging gradients that no computing hid."},
      {"scaling_efficiency",
       "Images per second on N agents divided by N times those of the base point, the fewest "
       "agents "
       "of the group (per agent)."},
      {"speed_up", "Images per second divided by those of the group's base point."},
      {"exposed_communication_share",
       "Exposed communication divided by the step time, both means over ranks and steps."},
      {"share_of_ceiling",
       "Images per second divided by those of the same agents without any exchange (independent)."},
      {"predicted_images_per_second",
       "Base point's step less its exposed communication, plus the predicted one: all-reduces of "
       "all buckets by the alpha-beta model of the measured network, less what backward (2/3 of "
       "computing) hides; the last bucket is never hidden. Not in it: ranks that wait for slower "
       "ones, cores that sending takes from computing, ranks that share a host's link."},
      {"prediction_error", "Predicted images per second divided by the measured ones, minus 1."},
      {"alpha_beta",
       "Time of a message = alpha + bytes x beta, fitted by least squares of the relative error to "
       "all-reduces of several sizes that the ranks timed before their warm-up."},
      {"server_wait_ms",
       "Mean time per step in which computing waited for variables that a parameter server held "
       "back: waiting for other workers' gradients, and the update itself."},
      {"mfu",
       "Model FLOPs per image (one multiply-add is 2) times images per second divided by the "
       "matrix peak of the same run."},
      {"matrix_peak_gflops",
       "Fastest matrix product in the precision of the run, measured before the warm-up by all "
       "ranks at the same time and summed; absent where the precision is only emulated."},
      {"convolution_bound_share",
       "Time of all convolutions alone, each by its fastest direct implementation, divided by the "
       "time of a step; measured in turns with steps after the window, only when profiled."},
      {"batch_search",
       "How the largest batch was found: plans made without taking memory, bytes wanted and free."},
      {"setup_s", "From process start to the first warm-up step."},
      {"peak_rss_bytes", "Largest resident memory of a rank from its first warm-up step on."},
      {"window_s", "Longest measured window of a rank."},
      {"first_loss", "Loss of the first measured step, mean over ranks."},
      {"final_loss", "Loss of the last measured step, mean over ranks."},
      {"pictures_broken", "Pictures that could not be decoded and were left out."},
      {"pictures_left_to_cpu",
       "With input.decode_device gpu: files that the CPU decoded after all, each counted once a "
       "rank."},
      {"latency",
       "Inference: time of one batch from having its pictures to having its logits, over the "
       "batches "
       "of all instances. Percentiles are nearest-rank: a latency that was observed. Null with "
       "input.overlap: batches then overlap."},
      {"agreement_top1",
       "Share of pictures for which int8 or bf16 gives the same first class as fp32, after the "
       "fp32 mean "
       "over the pictures is taken from the logits of both."},
      {"agreement_cosine",
       "Cosine between the int8 or bf16 and the fp32 logits of all pictures, after the fp32 mean "
       "over the "
       "pictures is taken from both."},
      {"power_w",
       "Mean power over the measured window; absent where there is no counter or it cannot be "
       "read. "
       "On cpu that of all CPU packages of the run's hosts (RAPL), whoever uses them. With GPUs "
       "that "
       "of the run's GPUs together, from their energy counters, and of nothing else in the hosts."},
      {"peak_gpu_memory_bytes",
       "Most memory in use on a GPU of the run, by all processes, among four readings a second."},
      {"gpu_busy_fraction",
       "Share of the time in which a kernel ran on the GPU, as its driver counts; mean over the "
       "measured window."},
      {"gpu_max_temperature_c",
       "Highest temperature of the GPU among four readings a second over the measured window."},
      {"gpu_sm_clock_mhz",
       "Clock of the GPU's multiprocessors: mean of four readings a second over the measured "
       "window."},
      {"gpu_sm_clock_change",
       "Median clock of the window's second half divided by that of its first second, minus 1; "
       "absent in a window under two seconds."},
      {"gpu_throttled",
       "Share of the readings in the measured window in which the driver named this reason for a "
       "clock below the highest."},
      {"gpu_ecc_errors",
       "Memory errors that the GPU counted between start and end of the measured window: those "
       "that its ECC corrected, and those that it could not, which make a run invalid."},
      {"joules_per_image", "Energy over the measured window divided by its images."},
      {"images_per_second_per_watt", "Images per second divided by the mean power."},
      {"validity",
       "clean, suspect or invalid. Suspect: fewer than 5 steps, drift beyond 5 % either way, "
       "variation above 20 %, more than 2 % of the CPU time of a rank's host stolen by the "
       "hypervisor, more than 5 % used by other processes than the run's ranks, a CPU quota that "
       "held processes back for more than 2 % of the time that it grants, more than 10 % of a "
       "rank's step time "
       "spent waiting for pictures, a changed frequency governor, more than 5 % of the steps "
       "skipped as gradients overflowed in fp16, a GPU that was slowed down by "
       "heat or the power brake in any reading, or whose clock (median of the second half) fell by "
       "more than 5 % below that of the window's first second. Invalid: no valid steps, or "
       "uncorrected memory errors of a GPU. Of a job: the worst of its runs that count; invalid "
       "ones count only where all are. Not checked: a condition that a host or GPU of the run does "
       "not show (or not within so short a window) is named, and the verdict says nothing of it."},
      {"fingerprint",
       "Results with an equal fingerprint form a series: same measurement, engine, libraries and "
       "device class."}};
  return sentences;
}

}  // namespace rackmark::measure
