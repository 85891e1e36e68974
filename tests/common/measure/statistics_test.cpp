#include "common/measure/statistics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace rackmark::measure {
namespace {

constexpr double kEps = 1e-9;

TEST(Statistics, HeadlineIsAllImagesOverTheLongestWindow) {
  // Four ranks on four clocks; one takes twice as long.
  const std::vector<RankWindow> ranks = {{3200, 0, 10'000'000'000},
                                         {3200, 500, 10'000'000'500},
                                         {3200, -7, 9'999'999'993},
                                         {3200, 1'000'000'000'000, 1'020'000'000'000}};
  EXPECT_NEAR(*headline(ranks), 4 * 3200 / 20.0, kEps);
  EXPECT_NEAR(*headline(std::span(ranks).first(1)), 320, kEps);
}

TEST(Statistics, HeadlineOfNothingIsNothing) {
  EXPECT_FALSE(headline({}));
  EXPECT_FALSE(headline(std::vector<RankWindow>{{0, 0, 1000}}));
  EXPECT_FALSE(headline(std::vector<RankWindow>{{5, 10, 10}}));
  EXPECT_FALSE(headline(std::vector<RankWindow>{{5, 10, 3}}));
}

// metrics: 99 steps of 0.1 s and one of 1.0 s at 32 images are 293.6 images/s, not the mean of
// rates 317.1.
TEST(Statistics, HeadlineIsNoMeanOfRates) {
  const std::int64_t total_ns = 99 * 100'000'000LL + 1'000'000'000LL;
  EXPECT_NEAR(*headline(std::vector<RankWindow>{{3200, 0, total_ns}}), 293.577981651, 1e-6);
}

// numpy.percentile([15, 20, 35, 40, 50], ...) with its default interpolation.
TEST(Statistics, PercentilesInterpolateLinearly) {
  const std::vector<double> v = {40, 15, 50, 35, 20};
  EXPECT_NEAR(*percentile(v, 0), 15, kEps);
  EXPECT_NEAR(*percentile(v, 0.4), 29, kEps);
  EXPECT_NEAR(*percentile(v, 0.5), 35, kEps);
  EXPECT_NEAR(*percentile(v, 0.9), 46, kEps);
  EXPECT_NEAR(*percentile(v, 1), 50, kEps);
  EXPECT_NEAR(*median({1, 2, 3, 10}), 2.5, kEps);
  EXPECT_NEAR(*percentile({7}, 0.99), 7, kEps);
  EXPECT_FALSE(percentile({}, 0.5));
  EXPECT_FALSE(median({}));
  EXPECT_FALSE(percentile({1, 2}, 1.5));
  EXPECT_FALSE(percentile({1, 2}, -0.1));
  EXPECT_FALSE(percentile({1, 2}, std::nan("")));
}

TEST(Statistics, AStepTakesAsLongAsItsSlowestRank) {
  const std::vector<std::vector<double>> ranks = {{10, 30, 20}, {11, 29, 20, 99}};
  EXPECT_EQ(slowest_per_step(ranks), (std::vector<double>{11, 30, 20}));
  const auto shares = share_last(ranks);
  EXPECT_NEAR(shares[0], 2.0 / 3, kEps);  // step 1, and the tie of step 2
  EXPECT_NEAR(shares[1], 1.0 / 3, kEps);
  EXPECT_TRUE(slowest_per_step({}).empty());
  EXPECT_TRUE(slowest_per_step({{1, 2}, {}}).empty());
  EXPECT_EQ(share_last({{1, 2}, {}}), (std::vector<double>{0, 0}));
  EXPECT_EQ(share_last({{1, 2}}), (std::vector<double>{1}));
}

// 2 4 4 4 5 5 7 9: mean 5, squares around it 32, sample deviation sqrt(32 / 7).
TEST(Statistics, StepStatisticsByHand) {
  const std::vector<double> steps = {2, 4, 4, 4, 5, 5, 7, 9};
  const StepStatistics s = step_statistics(steps);
  const double deviation = std::sqrt(32.0 / 7);
  EXPECT_EQ(s.count, 8);
  EXPECT_NEAR(*s.mean_ms, 5, kEps);
  EXPECT_NEAR(*s.median_ms, 4.5, kEps);
  EXPECT_NEAR(*s.p50_ms, 4.5, kEps);
  EXPECT_NEAR(*s.p90_ms, 7.6, kEps);   // at 6.3: 7 + 0.3 x 2
  EXPECT_NEAR(*s.p95_ms, 8.3, kEps);   // at 6.65
  EXPECT_NEAR(*s.p99_ms, 8.86, kEps);  // at 6.93
  EXPECT_NEAR(*s.min_ms, 2, kEps);
  EXPECT_NEAR(*s.max_ms, 9, kEps);
  EXPECT_NEAR(*s.standard_error_ms, deviation / std::sqrt(8.0), kEps);
  EXPECT_NEAR(*s.variation, deviation / 5, kEps);
  // distances from 4.5: 2.5 .5 .5 .5 .5 .5 2.5 4.5, their median 0.5
  EXPECT_NEAR(*s.jitter_ms, 1.4826 * 0.5, kEps);
  EXPECT_NEAR(*s.drift, 6.0 / 4 - 1, kEps);  // medians 4 and 6
}

TEST(Statistics, FewStepsSayLess) {
  EXPECT_EQ(step_statistics({}).count, 0);
  EXPECT_FALSE(step_statistics({}).mean_ms);
  const StepStatistics one = step_statistics(std::vector<double>{8});
  EXPECT_NEAR(*one.mean_ms, 8, kEps);
  EXPECT_NEAR(*one.p99_ms, 8, kEps);
  EXPECT_NEAR(*one.jitter_ms, 0, kEps);
  EXPECT_FALSE(one.standard_error_ms);
  EXPECT_FALSE(one.variation);
  EXPECT_FALSE(one.drift);
}

TEST(Statistics, DriftLeavesTheMiddleStepOut) {
  EXPECT_NEAR(*step_statistics(std::vector<double>{10, 10, 1000, 11, 11}).drift, 0.1, kEps);
  EXPECT_NEAR(*step_statistics(std::vector<double>{10, 10, 10, 10}).drift, 0, kEps);
}

TEST(Statistics, AJobsNumberIsTheMedianOfItsRuns) {
  const std::vector<double> runs = {100, 110, 90};
  const Headline h = job_headline(runs, {});
  EXPECT_NEAR(*h.images_per_second, 100, kEps);
  EXPECT_EQ(h.spread.kind, "runs");
  EXPECT_NEAR(*h.spread.value, 10 / std::sqrt(3.0) / 100, kEps);
  EXPECT_EQ(h.runs, 3);
}

TEST(Statistics, OneRunHasTheSpreadOfItsSteps) {
  const std::vector<double> run = {7.5};
  const Headline h = job_headline(run, step_statistics(std::vector<double>{9, 11}));
  EXPECT_NEAR(*h.images_per_second, 7.5, kEps);
  EXPECT_EQ(h.spread.kind, "steps");
  EXPECT_NEAR(*h.spread.value, std::sqrt(2.0) / std::sqrt(2.0) / 10, kEps);
  EXPECT_FALSE(job_headline(run, {}).spread.value);
}

TEST(Statistics, NoRunIsNoNumber) {
  const Headline h = job_headline({}, step_statistics(std::vector<double>{1, 2}));
  EXPECT_FALSE(h.images_per_second);
  EXPECT_FALSE(h.spread.value);
  EXPECT_EQ(h.runs, 0);
}

TEST(Statistics, MfuNeedsAPeak) {
  EXPECT_NEAR(*mfu(24.299, 10, 500), 0.48598, kEps);
  EXPECT_FALSE(mfu(24.299, 10, std::nullopt));
  EXPECT_FALSE(mfu(24.299, std::nullopt, 500));
  EXPECT_FALSE(mfu(24.299, 10, 0));
  EXPECT_FALSE(mfu(0, 10, 500));
}

std::vector<double> steps_of(int n, double ms) { return std::vector<double>(n, ms); }

TEST(Statistics, AFlatWindowIsClean) {
  const Validity v = judge(step_statistics(steps_of(5, 100)), {});
  EXPECT_EQ(v.verdict, Verdict::kClean);
  EXPECT_TRUE(v.causes.empty());
}

TEST(Statistics, SuspectAboveEachThresholdOnly) {
  const auto verdict = [](const StepStatistics& steps, const Conditions& host) {
    return judge(steps, host).verdict;
  };
  const StepStatistics flat = step_statistics(steps_of(20, 100));
  StepStatistics s = flat;
  s.drift = 0.05;
  EXPECT_EQ(verdict(s, {}), Verdict::kClean);
  s.drift = 0.051;
  EXPECT_EQ(verdict(s, {}), Verdict::kSuspect);
  s.drift = -0.051;
  EXPECT_EQ(verdict(s, {}), Verdict::kSuspect);
  s = flat;
  s.variation = 0.20;
  EXPECT_EQ(verdict(s, {}), Verdict::kClean);
  s.variation = 0.21;
  EXPECT_EQ(verdict(s, {}), Verdict::kSuspect);
  EXPECT_EQ(verdict(flat, {.steal_fraction = 0.02}), Verdict::kClean);
  EXPECT_EQ(verdict(flat, {.steal_fraction = 0.021}), Verdict::kSuspect);
  EXPECT_EQ(verdict(flat, {.foreign_cpu_fraction = 0.05}), Verdict::kClean);
  EXPECT_EQ(verdict(flat, {.foreign_cpu_fraction = 0.06}), Verdict::kSuspect);
  EXPECT_EQ(verdict(flat, {.quota_throttled_fraction = 0.02}), Verdict::kClean);
  EXPECT_EQ(verdict(flat, {.quota_throttled_fraction = 0.021}), Verdict::kSuspect);
  EXPECT_EQ(verdict(flat, {.input_wait_fraction = 0.1}), Verdict::kClean);
  EXPECT_EQ(verdict(flat, {.input_wait_fraction = 0.11}), Verdict::kSuspect);
  EXPECT_EQ(verdict(flat, {.governor_changed = true}), Verdict::kSuspect);
}

TEST(Statistics, ForeignCpuTimeIsWhatTheRunDidNotUse) {
  EXPECT_DOUBLE_EQ(foreign_cpu_fraction(3, 2.6, 4).value(), 0.1);
  EXPECT_EQ(foreign_cpu_fraction(2.6, 3, 4), 0) << "ticks are coarser than the process's own clock";
  EXPECT_EQ(foreign_cpu_fraction(0.5, 0.1, 0.9), std::nullopt);
}

TEST(Statistics, AGpuThatCouldNotDoItsBestIsNamed) {
  using Shares = std::map<std::string, double>;
  const StepStatistics flat = step_statistics(steps_of(20, 10));
  const auto of = [&flat](const GpuConditions& gpu) {
    Conditions host;
    host.gpus = {{}, gpu};
    return judge(flat, host);
  };
  // The power limit and idling between steps are every day's.
  EXPECT_EQ(of({.rank = 1, .throttled = Shares{{"sw_power_cap", 1}, {"gpu_idle", 0.5}}}).verdict,
            Verdict::kClean);
  EXPECT_EQ(of({.rank = 1, .throttled = {}, .sm_clock_change = -0.05}).verdict, Verdict::kClean);
  EXPECT_EQ(of({.rank = 1, .throttled = {}, .sm_clock_change = 0.5}).verdict, Verdict::kClean);
  const Validity hot = of({.rank = 1,
                           .throttled = Shares{{"hw_power_brake_slowdown", 0.5},
                                               {"sw_thermal_slowdown", 0.125},
                                               {"hw_slowdown", 0}},
                           .sm_clock_change = -0.2});
  EXPECT_EQ(hot.verdict, Verdict::kSuspect);
  EXPECT_THAT(hot.causes,
              testing::ElementsAre("the GPU of rank 1 was slowed down by the power brake in 50.0 % "
                                   "of the readings (hw_power_brake_slowdown)",
                                   "the GPU of rank 1 was slowed down by heat in 12.5 % of the "
                                   "readings (sw_thermal_slowdown)",
                                   "the GPU of rank 1 lost 20.0 % of its clock inside the window"));
  const Validity broken =
      of({.rank = 0, .throttled = {}, .sm_clock_change = -0.2, .ecc_uncorrected = 2});
  EXPECT_EQ(broken.verdict, Verdict::kInvalid);
  EXPECT_EQ(broken.causes.back(), "the GPU of rank 0 had 2 uncorrected memory errors (ECC)");
}

TEST(Statistics, WhatNothingWasMeasuredOfIsNamed) {
  const StepStatistics flat = step_statistics(steps_of(20, 10));
  EXPECT_THAT(judge(flat, {}).not_checked,
              testing::ElementsAre("steal time", "other processes", "waiting for pictures",
                                   "frequency governor"));
  Conditions all{.steal_fraction = 0,
                 .foreign_cpu_fraction = 0,
                 .input_wait_fraction = 0,
                 .governor_changed = false,
                 .gpus = {}};
  EXPECT_THAT(judge(flat, all).not_checked, testing::IsEmpty());
  all.gpus = {{.rank = 0,
               .throttled = std::map<std::string, double>{},
               .sm_clock_change = 0,
               .ecc_uncorrected = 0},
              {.rank = 1, .throttled = std::map<std::string, double>{}, .sm_clock_change = 0}};
  EXPECT_THAT(judge(flat, all).not_checked, testing::ElementsAre("memory errors of GPUs"));
  const std::vector<JudgedRun> runs{{1, judge(flat, all)}, {2, judge(flat, {})}};
  EXPECT_EQ(job_validity(runs).not_checked.size(), 5U) << "each once";
}

TEST(Statistics, ARampIsSuspectAndSaysWhy) {
  std::vector<double> ramp;
  for (int i = 0; i < 40; ++i) ramp.push_back(100 + i);
  const Validity v = judge(step_statistics(ramp), {.steal_fraction = 0.1});
  EXPECT_EQ(v.verdict, Verdict::kSuspect);
  EXPECT_THAT(v.causes, testing::ElementsAre("step time drifted by 18.3 % inside the window",
                                             "the hypervisor took 10.0 % of the CPU time"));
}

TEST(Statistics, FewStepsAreSuspectWithoutTalkOfDrift) {
  const Validity v = judge(step_statistics(std::vector<double>{100, 100, 110, 110}), {});
  EXPECT_EQ(v.verdict, Verdict::kSuspect);
  EXPECT_THAT(v.causes, testing::ElementsAre("few steps: 4"));
}

TEST(Statistics, NoValidStepsAreInvalid) {
  EXPECT_EQ(judge({}, {}).verdict, Verdict::kInvalid);
  EXPECT_EQ(judge(step_statistics(steps_of(9, 0)), {}).verdict, Verdict::kInvalid);
  EXPECT_EQ(judge(step_statistics(steps_of(9, std::nan(""))), {}).verdict, Verdict::kInvalid);
  EXPECT_EQ(judge(step_statistics(steps_of(9, 0)), {}).causes.size(), 1u);
}

TEST(Statistics, AJobIsAsValidAsTheWorstRunThatCounts) {
  const JudgedRun clean{1, {}}, suspect{2, {Verdict::kSuspect, {"few steps: 4", "heat"}}},
      invalid{3, {Verdict::kInvalid, {"memory errors"}}};
  const auto of = [](std::vector<JudgedRun> runs) { return job_validity(runs); };
  EXPECT_EQ(of({suspect, clean}).verdict, Verdict::kSuspect);
  EXPECT_THAT(of({suspect, clean}).causes,
              testing::ElementsAre("run 2: few steps: 4", "run 2: heat"));
  EXPECT_EQ(of({clean, invalid}).verdict, Verdict::kClean) << "which the headline leaves out";
  EXPECT_TRUE(of({clean, invalid}).causes.empty());
  EXPECT_EQ(of({invalid, invalid}).verdict, Verdict::kInvalid);
  EXPECT_EQ(of({invalid, invalid}).causes.size(), 2U);
  EXPECT_THAT(of({invalid}).causes, testing::ElementsAre("memory errors"));
}

// Rates 320, 320, 160 at 32 images: speed 32 / mean(.1 .1 .2), population deviation of the rates
// over sqrt(3), median distance 0.
TEST(Statistics, TfSpeedIsThatProgramsOwn) {
  const std::vector<double> seconds = {0.1, 0.1, 0.2};
  const TfSpeed speed = tf_speed(seconds, 32);
  EXPECT_NEAR(speed.images_per_second, 240, kEps);
  const double mean = 800.0 / 3;
  const double population =
      std::sqrt((2 * (320 - mean) * (320 - mean) + (160 - mean) * (160 - mean)) / 3);
  EXPECT_NEAR(speed.uncertainty, population / std::sqrt(3.0), kEps);
  EXPECT_NEAR(speed.jitter, 0, kEps);
  const TfSpeed varied = tf_speed(std::vector<double>{0.1, 0.2, 0.4}, 32);  // 320 160 80
  EXPECT_NEAR(varied.jitter, 1.4826 * 80, 1e-6);
  EXPECT_EQ(tf_speed({}, 32).images_per_second, 0);
}

TEST(Statistics, EveryNumberHasADefinition) {
  for (const char* name : {"images_per_second",
                           "spread",
                           "mean_ms",
                           "median_ms",
                           "p50_ms",
                           "p90_ms",
                           "p95_ms",
                           "p99_ms",
                           "max_ms",
                           "min_ms",
                           "standard_error_ms",
                           "jitter_ms",
                           "variation",
                           "drift",
                           "share_last",
                           "staleness",
                           "mfu",
                           "input_wait_ms",
                           "compute_ms",
                           "exposed_communication_ms",
                           "server_wait_ms",
                           "validity",
                           "setup_s",
                           "peak_rss_bytes",
                           "peak_gpu_memory_bytes",
                           "gpu_busy_fraction",
                           "gpu_max_temperature_c",
                           "gpu_sm_clock_mhz",
                           "gpu_sm_clock_change",
                           "gpu_throttled",
                           "gpu_ecc_errors",
                           "latency",
                           "agreement_top1",
                           "agreement_cosine",
                           "power_w",
                           "joules_per_image",
                           "window_s"}) {
    ASSERT_TRUE(definitions().contains(name)) << name;
    EXPECT_THAT(definitions().at(name), testing::EndsWith("."));
  }
  EXPECT_THAT(definitions().at("validity"), testing::HasSubstr("fewer than 5 steps"));
}

TEST(Latency, PercentilesAreObservedValues) {
  const LatencyStatistics five = latency_statistics({50, 20, 40, 35, 15});
  EXPECT_EQ(five.count, 5);
  EXPECT_DOUBLE_EQ(*five.mean_ms, 32);
  EXPECT_EQ(five.p50_ms, 35);  // the 3rd of 5
  EXPECT_EQ(five.p90_ms, 50);
  EXPECT_EQ(five.max_ms, 50);
  std::vector<double> hundred(100);
  for (std::size_t i = 0; i < hundred.size(); ++i) hundred[i] = static_cast<double>(100 - i);
  const LatencyStatistics many = latency_statistics(hundred);
  EXPECT_EQ(many.p50_ms, 50);
  EXPECT_EQ(many.p95_ms, 95);
  EXPECT_EQ(many.p99_ms, 99);
  EXPECT_EQ(latency_statistics({7}).p99_ms, 7);
  EXPECT_FALSE(latency_statistics({}).p50_ms);
  EXPECT_FALSE(nearest_rank({1}, 0));
}

}  // namespace
}  // namespace rackmark::measure
