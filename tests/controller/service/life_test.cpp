// The life of jobs and runs, through the Writer's own functions.
#include <gmock/gmock.h>

#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LifeTest : public Fleet {};

TEST_F(LifeTest, JobRunsAndItsResultIsTheHandValue) {
  auto agent = enrol("a");
  const auto submitted = submit(spec());
  EXPECT_EQ(submitted.state, JobState::kQueued);
  const auto run_id = complete_run(agent, {.steps = 4, .batch = 16, .ms = 125});
  const auto done = job(submitted.id);
  EXPECT_EQ(done.state, JobState::kSucceeded);
  EXPECT_EQ(done.outcome, RunState::kSucceeded);
  // 4 steps of 16 images in 4 x 0.125 s
  EXPECT_NEAR(*done.headline.images_per_second, 64 / 0.5, 1e-9);
  EXPECT_EQ(done.headline.runs, 1);
  EXPECT_EQ(done.spec_submitted, spec());
  EXPECT_FALSE(done.spec_resolved.at("resources").contains("threads_per_worker"));
  EXPECT_EQ(done.runs.at(0).spec.at("resources").at("threads_per_worker"), 2) << "as it ran";
  ASSERT_EQ(done.runs.size(), 1U);
  const auto& result = done.runs[0].result;
  ASSERT_TRUE(result);
  EXPECT_EQ(result->run_id, run_id);
  EXPECT_EQ(result->images, 64);
  EXPECT_NEAR(result->window_s, 0.5, 1e-12);
  EXPECT_NEAR(*result->step.median_ms, 125, 1e-9);
  EXPECT_EQ(result->fingerprint.size(), 64U);
  EXPECT_EQ(result->backend, "onednn");
  EXPECT_EQ(result->variable_update, "all_reduce");
  EXPECT_EQ(result->exchange, "all_reduce (as the worker says)");
  EXPECT_EQ(result->rank_times.size(), 1U);
  EXPECT_NEAR(result->rank_times[0].compute_ms, 124, 1e-6);
  EXPECT_FALSE(result->power_w);
  EXPECT_FALSE(result->mfu);
  EXPECT_THAT(result->validity.not_checked,
              ElementsAre("steal time", "other processes", "frequency governor"));
  EXPECT_EQ(done.validity->not_checked, result->validity.not_checked);
  EXPECT_THAT(agent.runs, IsEmpty());  // told to forget it
}

nlohmann::json profile_members() {
  return {{"passes", 3},
          {"sum_ms", 99.0},
          {"step_ms", 100.0},
          {"sum_over_step", 0.99},
          {"convolution_bound_ms", 80.0},
          {"convolution_bound_share", 0.8},
          {"rows",
           {{{"layer", "conv1"},
             {"pass", "forward"},
             {"implementation", "jit:avx2"},
             {"ms", 99.0},
             {"share", 1.0},
             {"gflops", 12.5}}}}};
}

TEST_F(LifeTest, PeakProfileAndTheLargestBatchComeFromTheWorkers) {
  auto agent = enrol("a");
  auto wanted = spec();
  wanted["batch_size"] = "max";
  wanted["profile"] = true;
  wanted["resources"] = {{"workers_per_agent", 2}, {"threads_per_worker", 1}};
  const auto id = submit(wanted).id;
  EXPECT_EQ(job(id).batch_size, 0) << "not known yet";
  const auto run_id = start_run(agent);
  EXPECT_EQ(reader->profile(run_id).error().code, ErrorCode::kNotFound);
  auto sent = batches(run_id, {.ranks = 2, .batch = 48});
  for (auto& batch : sent) {
    auto& hello = batch.events[0];
    hello["batch_size"] = 48;
    hello["training_gflop_per_image"] = 2.0;
    hello["batch_search"] = {{"batch_size", 48},
                             {"probes", 5},
                             {"bytes_wanted", 4'000},
                             {"bytes_free", 4'010},
                             {"limited_by", "cgroup v1"}};
    batch.events.back()["matrix_peak_gflops"] = 1'000.0;
    batch.events.back()["host"] = {{"boot_id", "both on one"},
                                   {"own_cpu_s", 1.3},
                                   {"cpu_s", 3.0},
                                   {"cpu_capacity_s", 4.0},
                                   {"package_energy_j", 50.0},
                                   {"governor_before", "performance"},
                                   {"governor_after", "powersave"},
                                   {"quota_cpus", 2.0},
                                   {"quota_throttled_s", 1.0}};
  }
  const auto profile = event("profile", 0, profile_members());
  sent[0].events.insert(sent[0].events.end() - 1, profile);
  sent[1].events.push_back(event("profile", 1, profile_members()));  // only rank 0's counts
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  EXPECT_EQ(reader->steps(run_id)->images_per_step, 96);
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 2);

  const auto done = job(id);
  ASSERT_TRUE(done.runs.at(0).result);
  const auto& result = *done.runs[0].result;
  EXPECT_EQ(done.batch_size, 48);
  EXPECT_EQ(result.batch_size, 48);
  EXPECT_EQ(result.batch_search->probes, 5);
  EXPECT_EQ(result.batch_search->bytes_free, 4'010);
  EXPECT_EQ(*result.matrix_peak_gflops, 2'000);
  EXPECT_NEAR(*result.mfu, 2.0 * result.images_per_second / 2'000, 1e-12);
  EXPECT_EQ(*result.convolution_bound_share, 0.8);
  EXPECT_NEAR(result.power_w.value(), 50 / result.window_s, 1e-9) << "of one host, said twice";
  EXPECT_THAT(result.validity.causes,
              testing::IsSupersetOf({"other processes used 10.0 % of the CPU time",
                                     "the frequency governor changed during the run"}));
  EXPECT_THAT(result.validity.causes,
              testing::Contains(testing::HasSubstr("a CPU quota held processes back for ")));
  EXPECT_EQ(done.spec_resolved.at("batch_size"), "max");
  const auto kept = reader->profile(run_id);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->run_id, run_id);
  ASSERT_EQ(kept->profile.rows.size(), 1U);
  EXPECT_EQ(kept->profile.rows[0].layer, "conv1");
  EXPECT_FALSE(kept->profile.rows[0].gbps);
  EXPECT_EQ(reader->profile(999).error().code, ErrorCode::kNotFound);
}

TEST_F(LifeTest, WhatADedicatedServerUsesOfItsHostIsTheRunsOwn) {
  auto agent = enrol("a");
  auto wanted = spec();
  wanted["variable_update"] = "parameter_server";
  wanted["parameter_server"] = {{"placement", "dedicated"}};
  wanted["resources"] = {{"workers_per_agent", 1}, {"threads_per_worker", 1}};
  const auto result_with = [&](bool server_tells) {
    submit(wanted);
    const auto run_id = start_run(agent);
    auto sent = batches(run_id, {.steps = 5});
    auto& summary = sent[0].events.back();
    summary["host"] = {
        {"boot_id", "one"}, {"own_cpu_s", 1.0}, {"cpu_s", 3.0}, {"cpu_capacity_s", 4.0}};
    auto server = summary;
    server.update({{"rank", 1}, {"images", 0}, {"steps", 0}, {"end_ns", 9'000'000'000}});
    server["host"]["own_cpu_s"] = 1.9;
    server["host"]["cpu_capacity_s"] = 4.5;  // its window is longer: not that of the numbers
    if (server_tells) sent[0].events.push_back(server);
    server["rank"] = 2;  // there is none
    sent[0].events.push_back(server);
    EXPECT_TRUE(writer->accept_events(agent.id, {sent}));
    report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
    return run(run_id).result.value();
  };
  const auto told = result_with(true);
  EXPECT_EQ(told.validity.verdict, measure::Verdict::kClean) << told.validity.causes.at(0);
  EXPECT_THAT(told.validity.not_checked, ElementsAre("steal time", "frequency governor"));
  EXPECT_EQ(told.rank_times.size(), 1U);
  EXPECT_NEAR(told.window_s, 0.5, 1e-9) << "the worker's";
  EXPECT_THAT(result_with(false).validity.not_checked, Contains("other processes"));
}

TEST_F(LifeTest, StepsThatOverflowAreToldAndAllOfThemAreAFailure) {
  auto agent = enrol("a");
  const auto run_with = [&](const nlohmann::json& skipped) {
    const auto id = submit(spec()).id;
    const auto run_id = start_run(agent);
    auto sent = batches(run_id, {.steps = 10});
    sent[0].events.back()["skipped_steps"] = skipped;
    EXPECT_TRUE(writer->accept_events(agent.id, {sent}));
    report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, std::ssize(sent));
    return job(id);
  };
  const auto none = run_with(0), one = run_with(1), all = run_with(10);
  EXPECT_EQ(none.runs.at(0).result->rank_times.at(0).skipped_steps, 0);
  EXPECT_EQ(none.runs.at(0).result->validity.verdict, measure::Verdict::kClean);
  EXPECT_EQ(one.runs.at(0).result->validity.verdict, measure::Verdict::kSuspect);
  EXPECT_THAT(one.runs.at(0).result->validity.causes, Contains(HasSubstr("skipped 1 of 10 steps")));
  EXPECT_EQ(all.reason, Reason::kNoValidSteps);
  EXPECT_FALSE(all.runs.at(0).result);
}

TEST_F(LifeTest, APeakThatOneRankLacksIsNoPeak) {
  auto agent = enrol("a");
  auto wanted = spec();
  wanted["resources"] = {{"workers_per_agent", 2}, {"threads_per_worker", 1}};
  const auto id = submit(wanted).id;
  const auto run_id = start_run(agent);
  auto sent = batches(run_id, {.ranks = 2});
  sent[0].events[0]["training_gflop_per_image"] = 2.0;
  sent[0].events.back()["matrix_peak_gflops"] = 1'000.0;
  auto huge = profile_members();
  huge["rows"] = std::vector<nlohmann::json>(2'001, huge["rows"][0]);
  sent[0].events.push_back(event("profile", 0, huge));
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 2);
  const auto ran = job(id).runs.at(0);
  ASSERT_TRUE(ran.result) << ran.detail;
  const auto& result = ran.result;
  EXPECT_FALSE(result->matrix_peak_gflops);
  EXPECT_FALSE(result->mfu);
  EXPECT_FALSE(result->convolution_bound_share);
  EXPECT_FALSE(result->batch_search);
  EXPECT_EQ(result->batch_size, 16);
  EXPECT_FALSE(reader->profile(run_id)) << "too many rows are not kept";
}

TEST_F(LifeTest, TransitionsKeepTimeActorAndReason) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  complete_run(agent);
  std::vector<std::string> states, actors;
  const auto ran = job(id).runs.at(0);
  for (const auto& t : ran.transitions) {
    states.push_back(t.state);
    actors.push_back(t.actor);
  }
  EXPECT_THAT(states, ElementsAre("reserved", "measuring", "collecting", "succeeded"));
  EXPECT_THAT(actors, ElementsAre("scheduler", "agent", "agent", "agent"));
}

TEST_F(LifeTest, SucceedsOnlyWhenEveryBatchIsStored) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  EXPECT_EQ(run(run_id).state, RunState::kCollecting);
  EXPECT_EQ(agent.runs.size(), 1U);  // not to be forgotten yet
  woken.clear();
  ASSERT_TRUE(writer->accept_events(agent.id, {batches(run_id, {})}));
  EXPECT_EQ(run(run_id).state, RunState::kSucceeded);
  EXPECT_THAT(woken, Contains(agent.id));  // so that it may forget
  EXPECT_EQ(job(id).state, JobState::kSucceeded);
  EXPECT_THAT(writer->sync_down(agent.id)->forget, ElementsAre(run_id));
}

TEST_F(LifeTest, BatchesThatNeverComeEndTheRunWithoutANumber) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 3);
  for (int i = 0; i < 8; ++i) {
    sync(agent);
    pass(10);
  }
  EXPECT_EQ(run(run_id).state, RunState::kFailed);
  EXPECT_THAT(run(run_id).detail, HasSubstr("3 of its event batches never came"));
  EXPECT_FALSE(job(id).headline.images_per_second);
  EXPECT_EQ(reader->results({})->items.size(), 0U);
}

TEST_F(LifeTest, AStepOfTheWallClockDoesNotShortenTheWaitForTheLastBatches) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  pass(1);
  clock.set_wall_s(3600);
  pass(1);
  sync(agent);
  EXPECT_EQ(run(run_id).state, RunState::kCollecting);
  ASSERT_TRUE(writer->accept_events(agent.id, {batches(run_id, {})}));
  EXPECT_EQ(job(id).state, JobState::kSucceeded);
}

TEST_F(LifeTest, MissingRankIsAFailureThatIsRetried) {
  auto agent = enrol("a");
  auto two = spec();
  two["resources"] = {{"workers_per_agent", 2}};
  const auto id = submit(two).id;
  const auto run_id = start_run(agent);
  auto sent = batches(run_id, {.ranks = 2});
  sent[1].events.pop_back();  // rank 1 has no summary
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 2);
  EXPECT_EQ(run(run_id).state, RunState::kFailed);
  EXPECT_EQ(run(run_id).reason, Reason::kMissingRank);
  EXPECT_THAT(run(run_id).detail, HasSubstr("rank 1 of 2"));
  EXPECT_EQ(job(id).state, JobState::kRunning);
  sync(agent);
  ASSERT_EQ(job(id).runs.size(), 2U);
  EXPECT_EQ(job(id).runs[1].attempt, 2);
}

TEST_F(LifeTest, RunWithoutMeasuredStepsHasNoNumber) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  auto sent = batches(run_id, {});
  auto& events = sent[0].events;
  events.erase(events.begin() + 2);  // the steps
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  EXPECT_EQ(job(id).state, JobState::kFailed);
  EXPECT_EQ(job(id).reason, Reason::kNoValidSteps);
  EXPECT_FALSE(job(id).headline.images_per_second);
}

TEST_F(LifeTest, TwoRanksCountAllImagesOverTheLongestWindow) {
  auto agent = enrol("a");
  auto two = spec();
  two["resources"] = {{"workers_per_agent", 2}};
  const auto id = submit(two).id;
  const auto run_id = start_run(agent);
  auto sent = batches(run_id, {.ranks = 2, .ms = 100});
  sent[1].events.back()["end_ns"] = 5'000'000'000 + 500'000'000;
  for (const std::int64_t rank : {0, 1, 1, 1, 1}) {  // 1.4 % of all readings, 7 % on one host
    sent[0].events.push_back(event(
        "telemetry", rank, {{"t_ns", 5'100'000'000}, {"steal_fraction", rank == 0 ? 0.07 : 0.0}}));
  }
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 2);
  EXPECT_NEAR(*job(id).headline.images_per_second, 128 / 0.5, 1e-9);
  EXPECT_EQ(run(run_id).result->ranks, 2);
  EXPECT_EQ(run(run_id).result->rank_times.size(), 2U);
  EXPECT_THAT(run(run_id).result->validity.causes,
              Contains("the hypervisor took 7.0 % of the CPU time"));
}

TEST_F(LifeTest, TheLastRankIsTheOneThatTheOthersWaitFor) {
  auto agent = enrol("a");
  auto two = spec();
  two["resources"] = {{"workers_per_agent", 2}};
  const auto id = submit(two).id;
  const auto run_id = start_run(agent);
  auto sent = batches(run_id, {.ranks = 2, .ms = 100});
  for (auto& batch : sent) {
    for (auto& event : batch.events) {
      const bool first = event.value("rank", -1) == 0;
      if (event.at("type") == "summary" && !first) event["staleness"] = {3, 1};
      if (event.at("type") != "steps") continue;
      // Steps end together, so all are equally long; rank 0 waits most of its own.
      for (auto& wait : event["server_wait_ms"]) wait = first ? 60 : 0;
    }
  }
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 2);
  const auto result = run(run_id).result;
  ASSERT_TRUE(result) << job(id).detail;
  EXPECT_EQ(result->rank_times[0].share_last, 0);
  EXPECT_EQ(result->rank_times[1].share_last, 1);
  EXPECT_EQ(result->rank_times[1].staleness, (std::vector<std::int64_t>{3, 1}));
}

TEST_F(LifeTest, OutOfMemoryIsAnAnswer) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  agent.runs[run_id].memory = {{"batch_size", 16}, {"bytes_wanted", 99}};
  report_end(agent, run_id, RunState::kOutOfMemory, Reason::kOutOfMemory, 0);
  EXPECT_EQ(job(id).state, JobState::kFailed);
  EXPECT_EQ(job(id).outcome, RunState::kOutOfMemory);
  EXPECT_EQ(job(id).runs.size(), 1U);  // never retried
  EXPECT_EQ(run(run_id).memory["bytes_wanted"], 99);
}

TEST_F(LifeTest, CrashIsRetriedAsOftenAsTheSpecSays) {
  auto agent = enrol("a");
  auto twice = spec();
  twice["retries"] = 2;
  const auto id = submit(twice).id;
  for (int attempt = 1; attempt <= 3; ++attempt) {
    EXPECT_EQ(job(id).state, attempt == 1 ? JobState::kQueued : JobState::kRunning);
    const auto run_id = start_run(agent);
    EXPECT_EQ(run(run_id).attempt, attempt);
    report_end(agent, run_id, RunState::kFailed, Reason::kWorkerCrashed, 0);
  }
  EXPECT_EQ(job(id).state, JobState::kFailed);
  EXPECT_EQ(job(id).reason, Reason::kWorkerCrashed);
  EXPECT_EQ(job(id).runs.size(), 3U);
}

TEST_F(LifeTest, ARetryGoesToAnotherHostAndARepetitionToTheOneThatSucceeded) {
  auto flaky = enrol("a"), good = enrol("b");
  sync(good);
  auto twice = spec();
  twice["repetitions"] = 2;
  twice["retries"] = 2;
  sync(flaky);
  const auto id = submit(twice).id;
  const auto fail_on = [this](AgentState& agent) {
    report_end(agent, start_run(agent), RunState::kFailed, Reason::kWorkerCrashed, 0);
  };
  fail_on(flaky);  // the lower id is taken first
  complete_run(good);
  fail_on(good);  // the repetition stays there, until it fails there as well
  complete_run(flaky);
  std::vector<std::string> hosts;
  for (const auto& run : job(id).runs) hosts.push_back(run.agent);
  EXPECT_THAT(hosts, ElementsAre("a", "b", "b", "a"));
}

TEST_F(LifeTest, RepetitionsRunOneAfterAnotherAndTheMedianCounts) {
  auto agent = enrol("a");
  auto thrice = spec();
  thrice["repetitions"] = 3;
  const auto id = submit(thrice).id;
  const auto first = complete_run(agent, {.steps = 4, .ms = 100});
  for (const double ms : {200.0, 125.0}) complete_run(agent, {.steps = 5, .ms = ms});
  const auto done = job(id);
  EXPECT_EQ(done.state, JobState::kSucceeded);
  EXPECT_EQ(done.headline.runs, 3);
  EXPECT_NEAR(*done.headline.images_per_second, 128, 1e-9);
  EXPECT_EQ(done.headline.spread.kind, "runs");
  EXPECT_EQ(done.runs[2].repetition, 3);
  EXPECT_EQ(done.runs[2].result->validity.verdict, measure::Verdict::kClean);
  ASSERT_TRUE(done.validity);
  EXPECT_EQ(done.validity->verdict, measure::Verdict::kSuspect) << "the first counts as well";
  EXPECT_THAT(done.validity->causes,
              ElementsAre("run " + std::to_string(first) + ": few steps: 4"));
}

TEST_F(LifeTest, CancelOfAQueuedJobIsAtOnce) {
  const auto id = submit(spec()).id;
  const auto cancelled = writer->cancel(id);
  ASSERT_TRUE(cancelled);
  EXPECT_EQ(cancelled->state, JobState::kCancelled);
  EXPECT_EQ(cancelled->reason, Reason::kCancelledByUser);
  EXPECT_EQ(writer->cancel(id).error().code, ErrorCode::kConflict);
  EXPECT_EQ(writer->cancel(99).error().code, ErrorCode::kNotFound);
}

TEST_F(LifeTest, CancelOfARunningJobWaitsForItsWorkers) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  woken.clear();
  const auto asked = writer->cancel(id, "kim");
  EXPECT_EQ(asked->state, JobState::kRunning);
  EXPECT_TRUE(asked->cancel_requested);
  EXPECT_THAT(woken, ElementsAre(agent.id));
  const auto down = sync(agent).down;
  EXPECT_THAT(down.cancel, ElementsAre(run_id));
  EXPECT_THAT(down.wanted, IsEmpty());
  EXPECT_TRUE(writer->cancel(id).has_value());  // again: no change
  // However the workers died of it, it was a cancellation.
  report_end(agent, run_id, RunState::kFailed, Reason::kWorkerCrashed, 0);
  EXPECT_EQ(job(id).state, JobState::kCancelled);
  EXPECT_EQ(run(run_id).state, RunState::kCancelled);
  EXPECT_EQ(job(id).runs.size(), 1U);
  EXPECT_EQ(job(id).detail, "cancelled by kim");
  std::vector<std::string> told;
  for (const auto& t : job(id).transitions) told.push_back(t.state + " by " + t.actor);
  EXPECT_THAT(told, ElementsAre("queued by user", "running by scheduler", "running by user",
                                "cancelled by user"));
  EXPECT_THAT(reader->jobs({})->items.at(0).transitions, IsEmpty());
}

TEST_F(LifeTest, CancelBeforeTheAgentWasToldEndsAtOnce) {
  auto agent = enrol("a");
  sync(agent);
  const auto id = submit(spec()).id;
  EXPECT_EQ(job(id).state, JobState::kRunning);  // reserved, not told yet
  EXPECT_EQ(writer->cancel(id)->state, JobState::kCancelled);
  EXPECT_THAT(sync(agent).down.wanted, IsEmpty());
  EXPECT_EQ(reader->agent(agent.id)->state, "idle");
}

TEST_F(LifeTest, TimeOutIsEnforcedWhenTheAgentDoesNot) {
  auto agent = enrol("a");
  auto quick = spec();
  quick["timeout_s"] = 120;
  const auto id = submit(quick).id;
  const auto run_id = start_run(agent);
  for (int s = 0; s < 190; s += 10) {
    sync(agent);
    pass(10);
  }
  EXPECT_EQ(run(run_id).state, RunState::kTimeout);
  EXPECT_EQ(job(id).outcome, RunState::kTimeout);
  const auto down = sync(agent).down;
  EXPECT_THAT(down.wanted, IsEmpty());                // not listed: must not run
  EXPECT_EQ(reader->agent(agent.id)->state, "busy");  // until it is empty
  report_end(agent, run_id, RunState::kCancelled, Reason::kNone, 0);
  EXPECT_EQ(reader->agent(agent.id)->state, "idle");
  EXPECT_EQ(run(run_id).state, RunState::kTimeout);
  EXPECT_THAT(agent.runs, IsEmpty());
}

TEST_F(LifeTest, HostIsFreeOnlyWhenItIsEmpty) {
  auto agent = enrol("a");
  submit(spec());
  const auto second = submit(spec()).id;
  const auto run_id = start_run(agent);
  auto& observed = agent.runs[run_id];
  observed.state = RunState::kFailed;
  observed.reason = Reason::kNanLoss;
  observed.all_gone = false;
  sync(agent);
  EXPECT_EQ(run(run_id).state, RunState::kFailed);
  EXPECT_EQ(job(second).state, JobState::kQueued);
  observed.all_gone = true;
  const auto down = sync(agent).down;
  EXPECT_EQ(job(second).state, JobState::kRunning);
  ASSERT_EQ(down.wanted.size(), 1U);
  EXPECT_EQ(down.wanted[0].job_id, second);
  EXPECT_THAT(down.forget, ElementsAre(run_id));
}

TEST_F(LifeTest, TerminalRunIgnoresLaterReportsAndBatches) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = complete_run(agent);
  const auto before = json::encode(run(run_id));
  protocol::EventBatch late;
  late.run_id = run_id;
  late.seq = 2;
  const auto receipt = writer->accept_events(agent.id, {{late}});
  EXPECT_THAT(receipt->refused_runs, ElementsAre(run_id));
  agent.runs[run_id] = {run_id, RunState::kFailed, Reason::kNanLoss, "late"};
  sync(agent);
  EXPECT_EQ(json::encode(run(run_id)), before);
  EXPECT_EQ(reader->results({})->items.size(), 1U);
}

}  // namespace
}  // namespace rackmark::service
