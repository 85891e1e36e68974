// What calls cost on a controller with a past and a long queue.
#include <gmock/gmock.h>

#include "tests/controller/service/fleet.hpp"
#include "tests/controller/service/sqlite_work.hpp"

namespace rackmark::service {
namespace {

class CostTest : SqliteWork, public Fleet {
 protected:
  using SqliteWork::of;

  // So many copies of a job, and of its run where it has one.
  void repeat(std::int64_t job_id, int times) {
    const std::string count = std::to_string(times), id = std::to_string(job_id);
    const auto copy = [&count](const std::string& table, const std::string& which,
                               const std::string& set) {
      return "CREATE TEMP TABLE copy AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
             "FROM n WHERE i < " +
             count + ") SELECT t.* FROM n, " + table + " AS t WHERE " + which +
             "; UPDATE copy SET " + set + "; INSERT INTO " + table +
             " SELECT * FROM copy; DROP TABLE copy;";
    };
    const std::string jobs = "rowid + (SELECT max(id) FROM jobs)",
                      runs = "rowid + (SELECT max(id) FROM runs)";
    restart_on(
        copy("jobs", "id = " + id, "id = " + jobs) +
        copy("runs", "job_id = " + id, "id = " + runs + ", job_id = " + jobs + " - " + count) +
        copy("run_agents", "run_id IN (SELECT id FROM runs WHERE job_id = " + id + ")",
             "run_id = " + runs + " - " + count));
  }
};

TEST_F(CostTest, ThePastIsNotWalked) {
  auto a = enrol("a"), b = enrol("b");
  submit(spec());
  complete_run(a);
  Work submitted[2], synced[2], listed[2];
  for (int round = 0; round < 2; ++round) {
    repeat(1, round == 0 ? 99 : 300);  // 100, then 400 jobs and runs of agent a
    sync(a);
    submitted[round] = of([&] { submit(spec()); });
    complete_run(a);
    synced[round] = of([&] { sync(a); });
    listed[round] = of([&] { ASSERT_EQ(reader->jobs({.agent = "b"})->items.size(), 0U); });
    const auto counted =
        of([&] { ASSERT_GE(reader->counters().runs_by_state.at("succeeded"), 100); });
    EXPECT_EQ(counted.sorts, 0);
  }
  EXPECT_LT(submitted[1].instructions, submitted[0].instructions * 3 / 2);
  EXPECT_LT(synced[1].instructions, synced[0].instructions * 3 / 2);
  // Each job has to be asked for its hosts, but not each run of the host for each job.
  EXPECT_LT(listed[1].instructions, listed[0].instructions * 8);
}

TEST_F(CostTest, AQueueIsNotWalkedWhileNoHostIsFree) {
  auto a = enrol("a");
  submit(spec());
  start_run(a);
  const auto waiting = submit(spec()).id;
  const auto few = of([&] { submit(spec()); });
  repeat(waiting, 100);
  sync(a);
  const auto many = of([&] { submit(spec()); });
  EXPECT_LT(many.instructions, few.instructions + 100 * 20) << "they are counted, not read";
}

TEST_F(CostTest, WhyAJobWaitsIsNotAskedForEachPairOfAJobAndAHost) {
  std::vector<AgentState> agents;
  for (int i = 0; i < 10; ++i) sync(agents.emplace_back(enrol("a" + std::to_string(i))));
  for (int i = 0; i < 10; ++i) submit(spec());
  const auto first = submit(spec()).id;
  for (int i = 0; i < 19; ++i) submit(spec());
  EXPECT_EQ(job(first + 19).waiting->blocking_job, first + 9);
  const auto looked = of([&] { job(first + 19); });
  EXPECT_LT(looked.statements, 100) << "20 jobs wait for 10 hosts";
}

}  // namespace
}  // namespace rackmark::service
