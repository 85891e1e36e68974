// Rows survive the way into the tables and back; bounds hold.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "controller/store/agents.hpp"
#include "controller/store/facts.hpp"
#include "controller/store/jobs.hpp"
#include "controller/store/journal.hpp"
#include "controller/store/logs.hpp"
#include "controller/store/migrate.hpp"
#include "controller/store/results.hpp"
#include "controller/store/runs.hpp"
#include "controller/store/steps.hpp"
#include "tests/controller/store/temp_folder.hpp"

namespace rackmark::store {
namespace {

using ::testing::ElementsAre;

constexpr std::int64_t kNow = 1'700'000'000'000'000;

class RowsTest : public ::testing::Test {
 protected:
  RowsTest() : db(folder.path() / "db.sqlite", Database::Access::kWrite) {
    migrate(db, embedded_migrations(), kNow);
  }

  std::int64_t add_job(const std::string& name, Labels labels = {}) {
    JobRow row;
    row.name = name;
    row.labels = std::move(labels);
    row.spec_submitted = "{ \"model\":\"resnet50\" }";
    row.model = "resnet50";
    row.selector = {{"fleet", "a"}};
    row.next_repetition = 1;
    row.next_attempt = 1;
    Transaction tx(db, kNow);
    const std::int64_t id = insert_job(tx, row);
    tx.commit();
    return id;
  }
  std::int64_t add_agent(const std::string& name) {
    AgentRow row;
    row.name = name;
    row.labels = {{"site", "x"}};
    row.inventory.cpu.physical_cores = 2;
    Transaction tx(db, kNow);
    const std::int64_t id = insert_agent(tx, row);
    tx.commit();
    return id;
  }
  std::int64_t add_run(std::int64_t job_id, std::int64_t agent_id, std::int64_t attempt = 1) {
    RunRow row;
    row.job_id = job_id;
    row.agent_id = agent_id;
    row.attempt = attempt;
    Transaction tx(db, kNow);
    const std::int64_t id = insert_run(tx, row, {agent_id});
    tx.commit();
    return id;
  }

  TempFolder folder;
  Database db;
};

TEST_F(RowsTest, JobGoesInAndComesBack) {
  const std::int64_t id = add_job("night", {{"team", "red"}});
  auto row = find_job(db, id);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->spec_submitted, "{ \"model\":\"resnet50\" }");
  EXPECT_EQ(row->selector, (Labels{{"fleet", "a"}}));
  EXPECT_EQ(row->created_us, kNow);
  EXPECT_FALSE(row->images_per_second);
  row->state = JobState::kFailed;
  row->outcome = RunState::kOutOfMemory;
  row->reason = Reason::kOutOfMemory;
  row->causes = {"drift"};
  row->next_repetition.reset();
  Transaction tx(db, kNow + 5);
  update_job(tx, *row);
  tx.commit();
  const auto again = find_job(db, id);
  EXPECT_EQ(again->state, JobState::kFailed);
  EXPECT_EQ(again->outcome, RunState::kOutOfMemory);
  EXPECT_THAT(again->causes, ElementsAre("drift"));
  EXPECT_TRUE(list_waiting_jobs(db).empty());
  EXPECT_FALSE(find_job(db, id + 1));
}

TEST_F(RowsTest, JobFilters) {
  const auto a = add_job("Night run", {{"team", "red"}});
  const auto b = add_job("day", {{"team", "blue"}});
  add_run(b, add_agent("host-b"));
  const auto ids = [this](const JobFilter& filter) {
    std::vector<std::int64_t> out;
    for (const auto& row : list_jobs(db, filter, 10)) out.push_back(row.id);
    return out;
  };
  EXPECT_THAT(ids({}), ElementsAre(b, a));
  EXPECT_THAT(ids({.active = true}), ElementsAre(b, a));
  EXPECT_THAT(ids({.state = JobState::kRunning}), ElementsAre());
  EXPECT_THAT(ids({.agent = "host-b"}), ElementsAre(b));
  EXPECT_THAT(ids({.name_part = "night"}), ElementsAre(a));
  EXPECT_THAT(ids({.label = {{"team", "blue"}}}), ElementsAre(b));
  EXPECT_THAT(ids({.before_id = b}), ElementsAre(a));
  EXPECT_THAT(ids({.since_us = kNow + 1}), ElementsAre());
  EXPECT_THAT(ids({.model = "resnet50", .until_us = kNow + 1}), ElementsAre(b, a));
}

TEST_F(RowsTest, HostRunsOneThingAtATime) {
  const auto agent = add_agent("a");
  const auto run = add_run(add_job("x"), agent);
  EXPECT_THROW(add_run(add_job("y"), agent), StoreError);
  auto host = find_host(db, run, agent);
  host->released_us = kNow;
  {
    Transaction tx(db, kNow);
    update_host(tx, *host);
    tx.commit();
  }
  EXPECT_GT(add_run(add_job("z"), agent), run);
}

TEST_F(RowsTest, AttemptIsUniqueAndRunIdsAreNotReused) {
  const auto job = add_job("x");
  const auto first = add_run(job, add_agent("a"));
  EXPECT_THROW(add_run(job, add_agent("b")), StoreError);
  db.execute("PRAGMA foreign_keys = OFF; DELETE FROM runs; PRAGMA foreign_keys = ON");
  EXPECT_GT(add_run(job, add_agent("c")), first);
}

TEST_F(RowsTest, EnumeratorFromTheFutureIsAnError) {
  const auto id = add_job("x");
  db.execute("UPDATE jobs SET state = 'dreaming'");
  EXPECT_THROW(find_job(db, id), StoreError);
}

TEST_F(RowsTest, StepChunksBecomeOneRowPerRank) {
  const auto run = add_run(add_job("x"), add_agent("a"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Transaction tx(db, kNow);
  add_step_chunk(tx, run, {1, StepPhase::kMeasuring, 0, {5}, {}, {}, {}, {}});
  add_step_chunk(tx, run, {0, StepPhase::kMeasuring, 2, {3, 4}, {0.5F, nan}, {}, {}, {}});
  add_step_chunk(tx, run, {0, StepPhase::kMeasuring, 0, {1, 2}, {0.9F, 0.8F}, {}, {}, {}});
  add_step_chunk(tx, run, {0, StepPhase::kMeasuring, 0, {9, 9}, {}, {}, {}, {}});  // a repeat
  add_step_chunk(tx, run, {0, StepPhase::kWarmup, 0, {7}, {2}, {}, {}, {}});
  for (int pass = 0; pass < 2; ++pass) {  // from the chunks, and from the compact rows
    const auto samples = list_samples(tx.db(), run);
    ASSERT_EQ(samples.size(), 2U);
    EXPECT_THAT(samples[0].ms, ElementsAre(1, 2, 3, 4));
    EXPECT_THAT(samples[0].warmup_ms, ElementsAre(7));
    EXPECT_TRUE(std::isnan(samples[0].loss[3]));
    EXPECT_FLOAT_EQ(samples[0].loss[0], 0.9F);
    EXPECT_TRUE(samples[0].input_wait_ms.empty());
    EXPECT_THAT(samples[1].ms, ElementsAre(5));
    compact_samples(tx, run);
  }
  Query q(tx.db(),
          "SELECT (SELECT count(*) FROM step_chunks), (SELECT count(*) FROM step_samples)");
  ASSERT_TRUE(q.step());
  std::int64_t chunks = -1, rows = -1;
  q.read(chunks, rows);
  EXPECT_EQ(chunks, 0);
  EXPECT_EQ(rows, 2);
}

TEST_F(RowsTest, HoleBetweenStepsIsNotANumber) {
  const auto run = add_run(add_job("x"), add_agent("a"));
  Transaction tx(db, kNow);
  add_step_chunk(tx, run, {0, StepPhase::kMeasuring, 1, {2}, {}, {}, {}, {}});
  const auto samples = list_samples(tx.db(), run);
  ASSERT_EQ(samples.at(0).ms.size(), 2U);
  EXPECT_TRUE(std::isnan(samples[0].ms[0]));
}

TEST_F(RowsTest, SamplesAreLittleEndianFloat32) {
  EXPECT_EQ(pack({1.0F}), std::string("\x00\x00\x80\x3f", 4));
  EXPECT_THAT(unpack(pack({0.1F, -2})), ElementsAre(0.1F, -2));
}

TEST_F(RowsTest, LogKeepsHeadAndTail) {
  const auto run = add_run(add_job("x"), add_agent("a"));
  Transaction tx(db, kNow);
  const std::int64_t all = kFirstLines + kLastLines + 500;
  for (std::int64_t n = 1; n <= all; ++n) {
    add_log_line(tx, run, {n, 0, "stdout", std::nullopt, "line"});
    if (n % 100 == 0) bound_log(tx, run, n);
  }
  const auto head = list_log(tx.db(), run, 0, 100'000);
  EXPECT_EQ(static_cast<std::int64_t>(head.size()), kFirstLines + kLastLines);
  EXPECT_EQ(head[kFirstLines - 1].number, kFirstLines);
  EXPECT_EQ(head[kFirstLines].number, kFirstLines + 501);
  const auto tail = tail_log(tx.db(), run, 2);
  ASSERT_EQ(tail.size(), 2U);
  EXPECT_EQ(tail[0].number, all - 1);
  EXPECT_EQ(tail[1].number, all);
}

TEST_F(RowsTest, TelemetryIsThinnedEvenly) {
  const auto run = add_run(add_job("x"), add_agent("a"));
  const auto two = add_run(add_job("y"), add_agent("b"));
  Transaction tx(db, kNow);
  for (int i = 0; i < 1000; ++i) add_telemetry(tx, run, {-1, "telemetry", i, {{"n", i}}});
  thin_telemetry(tx, run, 600);
  const auto rows = list_telemetry(tx.db(), run);
  ASSERT_EQ(rows.size(), 500U);
  EXPECT_EQ(rows[0].data["n"], 0);
  EXPECT_EQ(rows[499].data["n"], 998);

  // Ranks that take turns.
  for (int i = 0; i < 40; ++i) add_telemetry(tx, two, {i % 2, "telemetry", i, {{"n", i}}});
  thin_telemetry(tx, two, 20);
  std::int64_t of_rank_0 = 0;
  for (const auto& row : list_telemetry(tx.db(), two)) of_rank_0 += row.rank == 0 ? 1 : 0;
  EXPECT_EQ(of_rank_0, 10);
}

TEST_F(RowsTest, EventLogIsBoundedByNumberAndAge) {
  for (int i = 0; i < 10; ++i) {
    Transaction tx(db, kNow + i);
    add_event(tx, {0, "job", i % 2 ? std::optional<std::int64_t>(7) : std::nullopt, {{"i", i}}});
    tx.commit();
  }
  EXPECT_EQ(newest_event_id(db), 10);
  EXPECT_EQ(list_events(db, 0, 7, 100).size(), 5U);
  EXPECT_EQ(list_events(db, 4, std::nullopt, 3).front().id, 5);
  Transaction tx(db, kNow + 20);
  bound_events(tx, 8, kNow);
  EXPECT_EQ(oldest_event_id(tx.db()), 3);
  bound_events(tx, 8, kNow + 6);
  EXPECT_EQ(oldest_event_id(tx.db()), 7);
  bound_events(tx, 8, kNow + 100);
  EXPECT_EQ(oldest_event_id(tx.db()), 0);
  EXPECT_EQ(newest_event_id(tx.db()), 10);  // numbers go on
  EXPECT_EQ(add_event(tx, {0, "job", {}, {}}), 11);
}

TEST_F(RowsTest, RepliesAreRememberedForATime) {
  Transaction tx(db, kNow);
  remember_reply(tx, "k", {"hash", {{"id", 1}}});
  EXPECT_EQ(find_reply(tx.db(), "k", kNow)->reply["id"], 1);
  EXPECT_FALSE(find_reply(tx.db(), "k", kNow + 1));
  forget_replies(tx, kNow + 1);
  EXPECT_FALSE(find_reply(tx.db(), "k", 0));
}

TEST_F(RowsTest, AgentGoesInAndComesBack) {
  const auto id = add_agent("a");
  auto row = find_agent(db, id);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->inventory.cpu.physical_cores, 2);
  EXPECT_EQ(row->presence, Presence::kNeverSeen);
  row->presence = Presence::kPresent;
  row->last_seen_us = kNow;
  row->labels["rack"] = "3";
  Transaction tx(db, kNow);
  update_agent(tx, *row);
  tx.commit();
  EXPECT_EQ(find_agent_by_name(db, "a")->labels.size(), 2U);
  EXPECT_EQ(find_agent(db, id)->presence, Presence::kPresent);
  EXPECT_THROW(add_agent("a"), StoreError);
}

}  // namespace
}  // namespace rackmark::store
