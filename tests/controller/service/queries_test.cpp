// Submission, idempotency, lists, why jobs wait, dry runs, logs, counters.
#include <gmock/gmock.h>

#include <fstream>

#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class QueriesTest : public Fleet {
 protected:
  std::vector<std::int64_t> ids(const protocol::JobQuery& query) {
    std::vector<std::int64_t> out;
    const auto page = reader->jobs(query).value();
    for (const auto& item : page.items) out.push_back(item.id);
    return out;
  }
};

TEST_F(QueriesTest, RefusedSpecStoresNothing) {
  auto wrong = spec();
  wrong["model"] = "resnet51";
  wrong["colour"] = "red";
  const auto error = writer->submit(submission(wrong)).error();
  EXPECT_EQ(error.code, ErrorCode::kInvalid);
  EXPECT_GE(error.fields.size(), 2U);
  EXPECT_THAT(ids({}), IsEmpty());
  EXPECT_EQ(reader->newest_event_id(), 0);
}

TEST_F(QueriesTest, SubmittedTextIsKeptVerbatim) {
  const std::string text = "{ \"model\" : \"resnet50\",\n  \"name\": \"x\" }";
  const auto view = writer->submit({text, nlohmann::json::parse(text), {}});
  ASSERT_TRUE(view);
  writer->checkpoint();
  std::ifstream in(file(), std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(in), {});
  EXPECT_NE(bytes.find(text), std::string::npos);
  EXPECT_EQ(view->spec_resolved["batch_size"].is_number(), true);
}

// As a newer version may refuse, or not know at all, what an older one took.
TEST_F(QueriesTest, ASpecOfAnotherVersionConcernsItsOwnJobAlone) {
  auto a = enrol("a"), b = enrol("b"), c = enrol("c");
  const auto refused = submit(spec()).id, unknown = submit(spec()).id,
             cancelled = submit(spec()).id;
  const auto refused_run = start_run(a), unknown_run = start_run(b);
  start_run(c);
  const auto waiting = submit(spec()).id, next = submit(spec()).id;
  const auto set = [](const std::string& members, std::int64_t one, std::int64_t other) {
    const std::string value =
        " SET spec_resolved = json_set(spec_resolved, '$.precision', " + members + ") WHERE ";
    const std::string ids = " IN (" + std::to_string(one) + ", " + std::to_string(other) + ");";
    return "UPDATE jobs" + value + "id" + ids + "UPDATE runs" + value + "job_id" + ids;
  };
  restart_on(set("'tf32'", refused, waiting) +
             set("'fp99', '$.parameter_server.placement', 'dedicated'", unknown, cancelled));
  EXPECT_EQ(job(waiting).state, JobState::kFailed);
  EXPECT_EQ(job(waiting).reason, Reason::kSpecUnsupported);
  EXPECT_THAT(job(waiting).detail, HasSubstr("this version refuses the spec: field 'precision'"));

  const auto succeed = [this](AgentState& agent, std::int64_t run_id) {
    ASSERT_TRUE(writer->accept_events(agent.id, {batches(run_id, {})}));
    report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  };
  succeed(a, refused_run);
  EXPECT_EQ(job(refused).state, JobState::kSucceeded) << job(refused).detail;
  EXPECT_EQ(job(next).state, JobState::kRunning);
  succeed(b, unknown_run);
  EXPECT_EQ(job(unknown).state, JobState::kFailed);
  EXPECT_EQ(job(unknown).reason, Reason::kSpecUnsupported);
  ASSERT_TRUE(writer->cancel(cancelled));
  pass(100);  // all agents are silent, and nothing throws
  EXPECT_EQ(job(cancelled).state, JobState::kCancelled);
  EXPECT_EQ(reader->agent(a.id)->state, "lost");
}

TEST_F(QueriesTest, SameKeyAnswersTheFirstReplyAgain) {
  auto s = submission(spec());
  s.idempotency = Idempotency{"key-1", "hash-a"};
  const auto first = writer->submit(s);
  auto agent = enrol("a");
  sync(agent);  // the job runs by now
  open();
  const auto again = writer->submit(s);
  ASSERT_TRUE(again);
  EXPECT_EQ(json::encode(*again), json::encode(*first));
  EXPECT_EQ(ids({}).size(), 1U);
  s.idempotency->request_sha256 = "hash-b";
  EXPECT_EQ(writer->submit(s).error().code, ErrorCode::kConflict);
  clock.advance_s(24 * 3600 + 1);
  EXPECT_NE(writer->submit(s)->id, first->id);  // after a day the key is new
}

TEST_F(QueriesTest, RefusedRequestDoesNotUseUpItsKey) {
  Submission s = submission({{"model", "nonsense"}});
  s.idempotency = Idempotency{"key", "a"};
  EXPECT_FALSE(writer->submit(s));
  s = submission(spec());
  s.idempotency = Idempotency{"key", "b"};
  EXPECT_TRUE(writer->submit(s));
}

TEST_F(QueriesTest, RerunIsAnEqualJob) {
  auto named = spec();
  named["labels"] = {{"team", "red"}};
  const auto id = submit(named).id;
  const auto again = writer->rerun(id);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->rerun_of, id);
  EXPECT_EQ(again->spec_submitted, named);
  EXPECT_EQ(writer->rerun(99).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(ids({.label = "team=red"}), ElementsAre(again->id, id));
}

TEST_F(QueriesTest, TooManyJobsAreRefused) {
  settings.maximum_active_jobs = 2;
  open();
  submit(spec());
  submit(spec());
  EXPECT_EQ(writer->submit(submission(spec())).error().code, ErrorCode::kTooMany);
  writer->cancel(1);
  EXPECT_TRUE(writer->submit(submission(spec())));
}

TEST_F(QueriesTest, PagesFollowTheCursor) {
  for (int i = 0; i < 5; ++i) submit(spec());
  protocol::JobQuery query;
  query.limit = 2;
  std::vector<std::int64_t> seen;
  for (;;) {
    const auto page = reader->jobs(query).value();
    for (const auto& item : page.items) seen.push_back(item.id);
    if (!page.next_cursor) break;
    query.cursor = page.next_cursor;
  }
  EXPECT_THAT(seen, ElementsAre(5, 4, 3, 2, 1));
}

TEST_F(QueriesTest, BadQueriesNameEveryMember) {
  protocol::JobQuery query;
  query.state = "sleeping";
  query.mode = "dancing";
  query.label = "red";
  query.since = "yesterday";
  query.cursor = "12x";
  query.limit = 0;
  const auto error = reader->jobs(query).error();
  EXPECT_EQ(error.code, ErrorCode::kInvalid);
  std::vector<std::string> fields;
  for (const auto& problem : error.fields) fields.push_back(problem.field);
  EXPECT_THAT(fields, ElementsAre("state", "mode", "limit", "label", "since", "cursor"));
  EXPECT_THAT(error.message, HasSubstr("active, queued"));
  protocol::ResultQuery results;
  results.limit = 1001;
  results.model = "vgg";
  EXPECT_EQ(reader->results(results).error().fields.size(), 2U);
}

TEST_F(QueriesTest, StateFilters) {
  auto agent = enrol("a");
  const auto done = submit(spec()).id;
  complete_run(agent);
  const auto running = submit(spec()).id;
  sync(agent);
  const auto queued = submit(spec()).id;
  EXPECT_THAT(ids({.state = "active"}), ElementsAre(queued, running));
  EXPECT_THAT(ids({.state = "succeeded"}), ElementsAre(done));
  EXPECT_THAT(ids({.agent = "a"}), ElementsAre(running, done));
  EXPECT_THAT(ids({.device_class = "nothing"}), IsEmpty());
}

TEST_F(QueriesTest, ResultsFilterByWhatPeopleCompare) {
  auto agent = enrol("a");
  submit(spec());
  complete_run(agent);
  auto bigger = spec();
  bigger["batch_size"] = 32;
  submit(bigger);
  complete_run(agent, {.batch = 32});
  const auto count = [this](const protocol::ResultQuery& query) {
    return reader->results(query)->items.size();
  };
  EXPECT_EQ(count({}), 2U);
  EXPECT_EQ(count({.batch_size = 32}), 1U);
  EXPECT_EQ(count({.model = "resnet50", .agent = "a"}), 2U);
  EXPECT_EQ(count({.job = 1}), 1U);
  EXPECT_EQ(count({.precision = "bf16"}), 0U);
  const auto newest = reader->results({.limit = 1}).value();
  EXPECT_EQ(newest.items[0].batch_size, 32);
  EXPECT_EQ(newest.next_cursor, "2");
  EXPECT_EQ(count({.fingerprint = newest.items[0].fingerprint}), 1U);
  EXPECT_EQ(count({.since = rfc3339(clock.wall_us() + 1'000'000)}), 0U);
}

TEST_F(QueriesTest, WaitingJobSaysWhy) {
  const auto first = submit(spec()).id;
  EXPECT_EQ(job(first).waiting->detail, "no agent is enrolled");
  auto agent = enrol("a", {{"fleet", "cpu"}});
  EXPECT_EQ(job(first).waiting->detail, "waiting for agent a (enrolled, not seen yet)");
  auto picky = spec();
  picky["resources"] = {{"selector", {{"fleet", "gpu"}}}};
  EXPECT_EQ(job(submit(picky).id).waiting->detail, "no agent matches selector fleet=gpu");
  auto wide = spec();
  wide["resources"] = {{"threads_per_worker", 64}};
  EXPECT_THAT(job(submit(wide).id).waiting->detail, HasSubstr("physical cores"));
  sync(agent);
  EXPECT_FALSE(job(first).waiting);
  auto named = spec();
  named["resources"] = {{"selector", {{"name", "a"}}}};
  const auto behind = job(submit(named).id).waiting.value();
  EXPECT_EQ(behind.detail, "behind job " + std::to_string(first) + " on agent a");
  EXPECT_EQ(behind.blocking_job, first);
  EXPECT_FALSE(behind.estimate_s);  // nothing to estimate from
}

TEST_F(QueriesTest, EstimateComesFromPastRunsOfAnEqualSpec) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  clock.advance_s(40);
  ASSERT_TRUE(writer->accept_events(agent.id, {batches(run_id, {})}));
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  submit(spec());
  sync(agent);
  clock.advance_s(10);
  auto renamed = spec();
  renamed["name"] = "same measurement, other name";
  const auto third = submit(renamed).id;
  const auto fourth = submit(spec()).id;
  EXPECT_NEAR(*job(third).waiting->estimate_s, 30, 1e-6);
  EXPECT_NEAR(*job(fourth).waiting->estimate_s, 70, 1e-6);
  EXPECT_EQ(job(fourth).waiting->blocking_job, third);
  EXPECT_NEAR(*reader->dry_run(spec())->estimate_s, 40, 1e-6);
  EXPECT_NEAR(*reader->dry_run(spec())->waiting->estimate_s, 110, 1e-6);
}

TEST_F(QueriesTest, DryRunResolvesForAMatchingHostAndStoresNothing) {
  EXPECT_FALSE(reader->dry_run({{"model", 5}}));
  EXPECT_EQ(reader->dry_run(spec())->waiting->detail, "no agent is enrolled");
  auto agent = enrol("a");
  sync(agent);
  const auto dry = reader->dry_run(spec()).value();
  EXPECT_THAT(dry.matching_agents, ElementsAre("a"));
  EXPECT_EQ(dry.spec_resolved["resources"]["threads_per_worker"], 2);
  EXPECT_FALSE(dry.waiting);
  EXPECT_THAT(ids({}), IsEmpty());
}

TEST_F(QueriesTest, LogsPageAndTail) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  protocol::EventBatch batch = batch_of(run_id);
  batch.dropped = 3;
  for (int i = 0; i < 9; ++i) batch.logs.push_back({0, "stdout", "", "l" + std::to_string(i)});
  ASSERT_TRUE(writer->accept_events(agent.id, {{batch}}));
  auto page = reader->logs(run_id, {.after = 0, .limit = 4}).value();
  EXPECT_THAT(page.lines[0].text, HasSubstr("3 lines were lost"));
  EXPECT_EQ(page.last_number, 4);
  EXPECT_FALSE(page.complete);
  page = reader->logs(run_id, {.tail = 2}).value();
  EXPECT_EQ(page.lines.back().text, "l8");
  EXPECT_EQ(page.lines.size(), 2U);
  report_end(agent, run_id, RunState::kFailed, Reason::kInputBroken, 1);
  EXPECT_TRUE(reader->logs(run_id, {.after = 4})->complete);
  EXPECT_EQ(reader->logs(99, {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(reader->logs(run_id, {.limit = 0}).error().code, ErrorCode::kInvalid);
}

TEST_F(QueriesTest, LongLogSaysWhatWasDropped) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  for (std::int64_t seq = 1; seq <= 23; ++seq) {
    protocol::EventBatch batch = batch_of(run_id, seq);
    for (int i = 0; i < 1000; ++i) batch.logs.push_back({0, "stdout", "", "x"});
    ASSERT_TRUE(writer->accept_events(agent.id, {{batch}}));
  }
  const auto page = reader->logs(run_id, {.after = 1999, .limit = 3}).value();
  ASSERT_EQ(page.lines.size(), 4U);
  EXPECT_EQ(page.lines[0].number, 2000);
  EXPECT_EQ(page.lines[1].stream, "controller");
  EXPECT_THAT(page.lines[1].text, HasSubstr("1000 lines are not kept"));
  EXPECT_EQ(page.lines[2].number, 3001);
}

TEST_F(QueriesTest, StepsOfALiveAndOfAFinishedRunAreTheSame) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  ASSERT_TRUE(writer->accept_events(agent.id, {batches(run_id, {})}));
  const auto during = json::encode(reader->steps(run_id).value());
  EXPECT_EQ(during["images_per_step"], 16);
  EXPECT_EQ(during["ranks"][0]["ms"].size(), 4U);
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  EXPECT_EQ(json::encode(reader->steps(run_id).value()), during);
}

TEST_F(QueriesTest, StepsComeThinnedOrInPages) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  const auto steps_event = [](std::int64_t first, std::vector<double> ms) {
    return event("steps", 0, {{"phase", "measuring"}, {"first_step", first}, {"ms", ms}});
  };
  auto sent = batches(run_id, {});
  auto& events = sent[0].events;
  events[2] = steps_event(0, {1, 2, 3, 4, 5});
  events.insert(events.begin() + 3, steps_event(19'999'999, {1}));  // 80 MB of nothing if believed
  events.insert(events.begin() + 3, steps_event(7, {8, 9}));        // 5 and 6 were lost
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  const auto same = [&] {
    const auto thinned = reader->steps(run_id, {.from = {}, .limit = 4}).value();
    EXPECT_EQ(thinned.steps, 9);
    EXPECT_EQ(thinned.stride, 3);
    EXPECT_EQ(thinned.warmup_stride, 1);
    EXPECT_THAT(thinned.ranks.at(0).ms, ElementsAre(1, 4, testing::IsNan()));
    const auto page = reader->steps(run_id, {.from = 3, .limit = 5}).value();
    EXPECT_EQ(page.stride, 1);
    EXPECT_THAT(page.ranks.at(0).ms, ElementsAre(4, 5, testing::IsNan(), testing::IsNan(), 8));
    EXPECT_THAT(reader->steps(run_id, {.from = 9, .limit = 5})->ranks.at(0).ms, IsEmpty());
  };
  same();
  report_end(agent, run_id, RunState::kSucceeded, Reason::kNone, 1);
  same();
  const auto bad = reader->steps(run_id, {.from = -1, .limit = 100'001});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().fields.size(), 2U);
}

TEST_F(QueriesTest, CountersCountEveryState) {
  auto agent = enrol("a");
  submit(spec());
  complete_run(agent);
  submit(spec());
  submit(spec());
  clock.advance_s(5);
  const auto counters = reader->counters();
  EXPECT_EQ(counters.jobs_by_state.at("succeeded"), 1);
  EXPECT_EQ(counters.jobs_by_state.at("running"), 1);
  EXPECT_EQ(counters.jobs_by_state.at("queued"), 1);
  EXPECT_EQ(counters.jobs_by_state.at("failed"), 0);
  EXPECT_EQ(counters.runs_by_state.at("reserved"), 1);
  EXPECT_EQ(counters.agents_by_state.at("busy"), 1);
  EXPECT_EQ(counters.results, 1);
  EXPECT_NEAR(*counters.oldest_queued_s, 5, 1e-6);
  EXPECT_TRUE(reader->ready());
}

}  // namespace
}  // namespace rackmark::service
