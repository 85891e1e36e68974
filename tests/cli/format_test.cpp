#include "cli/format.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rackmark::cli {
namespace {

TEST(Format, RatesKeepThreeDigits) {
  EXPECT_EQ(rate_text(0.456), "0.46");
  EXPECT_EQ(rate_text(7.614), "7.61");
  EXPECT_EQ(rate_text(9.994), "9.99");
  EXPECT_EQ(rate_text(9.996), "10.0");
  EXPECT_EQ(rate_text(76.14), "76.1");
  EXPECT_EQ(rate_text(99.96), "100");
  EXPECT_EQ(rate_text(761.4), "761");
  EXPECT_EQ(rate_text(4812.4), "4,812");
  EXPECT_EQ(rate_text(1234567), "1,234,567");
}

TEST(Format, AHeadlineCarriesUnitSpreadAndRuns) {
  EXPECT_EQ(headline_text({7.61, {0.004, "steps"}, 1}), "7.61 img/s ±0.4 % (n=1, within the run)");
  EXPECT_EQ(headline_text({4812, {0.006, "runs"}, 5}), "4,812 img/s ±0.6 % (n=5)");
  EXPECT_EQ(headline_text({7.61, {0.0004, "runs"}, 3}), "7.61 img/s ±0.04 % (n=3)");
  EXPECT_EQ(headline_text({7.61, {std::nullopt, "steps"}, 1}),
            "7.61 img/s spread not available (n=1, within the run)");
  EXPECT_EQ(headline_text({}), "no number");
}

TEST(Format, AMissingNumberSaysWhy) {
  protocol::JobView job;
  EXPECT_EQ(job_number_text(job), "waiting");
  job.waiting = protocol::Waiting{.detail = "behind job 41 on agent a"};
  EXPECT_EQ(job_number_text(job), "waiting: behind job 41 on agent a");
  job.state = JobState::kRunning;
  EXPECT_EQ(job_number_text(job), "running");
  job.runs.push_back({.state = RunState::kMeasuring});
  EXPECT_EQ(job_number_text(job), "measuring");
  job.state = JobState::kFailed;
  job.outcome = RunState::kOutOfMemory;
  job.reason = Reason::kOutOfMemory;
  EXPECT_EQ(job_number_text(job), "out of memory");
  job.outcome = RunState::kFailed;
  job.reason = Reason::kNanLoss;
  EXPECT_EQ(job_number_text(job), "failed: nan loss");
  job.outcome = std::nullopt;
  job.reason = Reason::kNone;
  EXPECT_EQ(job_number_text(job), "failed");
  job.state = JobState::kCancelled;
  EXPECT_EQ(job_number_text(job), "cancelled");
}

TEST(Format, TimesAndSizes) {
  EXPECT_EQ(duration_text(0.4), "0 s");
  EXPECT_EQ(duration_text(59.6), "1 m 00 s");
  EXPECT_EQ(duration_text(185), "3 m 05 s");
  EXPECT_EQ(duration_text(7800), "2 h 10 m");
  EXPECT_EQ(duration_text(90000), "1 d 01 h");
  EXPECT_EQ(duration_text(-5), "0 s");
  EXPECT_EQ(milliseconds_text(4203.4), "4,203 ms");
  EXPECT_EQ(milliseconds_text(12.34), "12.3 ms");
  EXPECT_EQ(milliseconds_text(std::nullopt), "not available");
  EXPECT_EQ(digits_text(0.09123), "0.0912");
  EXPECT_EQ(digits_text(99.96), "100");
  EXPECT_EQ(digits_text(999.6), "1,000");
  EXPECT_EQ(bytes_text(512), "512 B");
  EXPECT_EQ(bytes_text(16.75e9), "15.6 GiB");
  EXPECT_EQ(bytes_text(256.0 * 1024 * 1024 * 1024), "256 GiB");
  EXPECT_EQ(count_text(25557032), "25,557,032");
  EXPECT_EQ(count_text(-1234), "-1,234");
  EXPECT_EQ(count_text(-123), "-123");
  EXPECT_EQ(time_text("2026-11-21T02:03:04.567Z"), "2026-11-21 02:03:04Z");
  EXPECT_EQ(time_text(""), "");
  EXPECT_EQ(words("out_of_memory"), "out of memory");
}

// Names and log lines come from others: no escape sequence may reach the terminal.
TEST(Format, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(printable("a\tb"), "a\tb");
  EXPECT_EQ(printable("\x1b[31mred\r\n"), "?[31mred??");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m");
  EXPECT_EQ(printable("é ±"), "é ±");
}

TEST(Format, ProgressShowsABarStepsRateAndLoss) {
  protocol::JobView job;
  job.state = JobState::kRunning;
  job.runs.resize(1);
  job.runs[0].state = RunState::kMeasuring;
  job.runs[0].progress = {.phase = "measuring",
                          .steps_done = 12,
                          .steps_planned = 20,
                          .images_per_second = 7.614,
                          .loss = 6.9314};
  EXPECT_EQ(progress_text(job, 80),
            "measuring  [############........] 12/20  7.61 img/s  loss 6.931");
  EXPECT_EQ(progress_text(job, 20).size(), 20u);
  job.runs[0].progress.steps_planned = std::nullopt;
  EXPECT_EQ(progress_text(job, 80), "measuring  step 12  7.61 img/s  loss 6.931");
  job.runs[0].attempt = 2;
  EXPECT_THAT(progress_text(job, 120), testing::EndsWith("(repetition 1, attempt 2)"));
  job.runs[0].progress = {.steps_done = 30, .steps_planned = 20};
  EXPECT_THAT(progress_text(job, 80), testing::HasSubstr("[####################] 30/20"));
  job.runs[0] = {.state = RunState::kStarting};
  EXPECT_EQ(progress_text(job, 80), "starting  ");
}

}  // namespace
}  // namespace rackmark::cli
