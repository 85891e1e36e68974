#include "controller/service/scheduler.hpp"

#include <gmock/gmock.h>

#include "controller/service/repetition.hpp"

namespace rackmark::service {
namespace {

using ::testing::ElementsAre;

Host host(std::int64_t id, std::map<std::string, std::string> labels = {}) {
  Host h;
  h.id = id;
  h.name = std::string(1, static_cast<char>('a' + id - 1));
  h.labels = std::move(labels);
  h.network = {{"10.0.0." + std::to_string(id) + "/24"}, ""};
  return h;
}
QueuedJob queued(std::int64_t id, std::int64_t agents = 1) {
  QueuedJob job;
  job.id = id;
  job.agents_wanted = agents;
  return job;
}
std::vector<std::pair<std::int64_t, std::vector<std::int64_t>>> placed(const Plan& plan) {
  std::vector<std::pair<std::int64_t, std::vector<std::int64_t>>> out;
  for (const auto& p : plan.placements) out.emplace_back(p.job_id, p.hosts);
  return out;
}
using Placed = std::pair<std::int64_t, std::vector<std::int64_t>>;

TEST(Scheduler, FirstComeFirstServed) {
  const auto plan =
      FifoScheduler().plan({{queued(1), queued(2), queued(3)}, {host(1), host(2)}}, false);
  EXPECT_THAT(placed(plan), ElementsAre(Placed{1, {1}}, Placed{2, {2}}));
  ASSERT_EQ(plan.waits.size(), 1U);
  EXPECT_EQ(plan.waits[0].blocking_job, 1);
}

TEST(Scheduler, JobThatCannotRunHoldsNobodyUp) {
  auto picky = queued(1);
  picky.selector = {{"fleet", "x"}};
  const auto plan = FifoScheduler().plan({{picky, queued(2)}, {host(1)}}, true);
  EXPECT_THAT(placed(plan), ElementsAre(Placed{2, {1}}));
}

TEST(Scheduler, GangIsAllOrNothingAndIsNotStarved) {
  auto busy = host(2);
  busy.busy_job = 9;
  const auto plan = FifoScheduler().plan({{queued(1, 2), queued(2)}, {host(1), busy}}, true);
  EXPECT_TRUE(plan.placements.empty());  // job 2 may not slip onto the host that job 1 waits with
  const auto free = FifoScheduler().plan({{queued(1, 2), queued(2)}, {host(1), host(2)}}, true);
  EXPECT_THAT(placed(free), ElementsAre(Placed{1, {1, 2}}));
}

TEST(Scheduler, GpuAndClassAndPreference) {
  auto gpu = host(2);
  gpu.shape.gpus = 1;
  gpu.device_class = "g";
  auto twin = gpu;
  twin.id = 3;
  auto job = queued(1);
  job.needs_gpu = true;
  job.preferred_hosts = {3};
  EXPECT_THAT(placed(FifoScheduler().plan({{job}, {host(1), gpu, twin}}, false)),
              ElementsAre(Placed{1, {3}}));
  job.required_class = "other";
  EXPECT_EQ(FifoScheduler().plan({{job}, {host(1), gpu}}, false).waits.at(0).detail,
            "no agent with a GPU of device class other is enrolled");
}

TEST(Scheduler, AGangHasOneVersionOfOpenMpi) {
  auto a = host(1), b = host(2), c = host(3);
  a.openmpi = c.openmpi = "4.1.4";
  b.openmpi = "5.0.7";
  const auto apart = FifoScheduler().plan({{queued(1, 2)}, {a, b}}, false);
  ASSERT_EQ(apart.waits.size(), 1U);
  EXPECT_EQ(apart.waits[0].detail,
            "needs 2 agents of one version of Open MPI (4.1.4: a; 5.0.7: b)");
  const auto together = FifoScheduler().plan({{queued(1, 2), queued(2)}, {a, b, c}}, false);
  EXPECT_THAT(placed(together), ElementsAre(Placed{1, {1, 3}}, Placed{2, {2}}));
}

TEST(Scheduler, WaitsAddUpOnTheHostThatIsFreeFirst) {
  auto a = host(1), b = host(2);
  a.busy_job = 7;
  a.free_in_s = 100;
  b.busy_job = 8;
  b.free_in_s = 10;
  auto first = queued(1), second = queued(2), third = queued(3);
  first.estimate_s = 50;
  second.estimate_s = 50;
  const auto plan = FifoScheduler().plan({{first, second, third}, {a, b}}, false);
  ASSERT_EQ(plan.waits.size(), 3U);
  EXPECT_EQ(plan.waits[0].estimate_s, 10);   // behind 8 on b
  EXPECT_EQ(plan.waits[1].estimate_s, 60);   // behind 1 on b
  EXPECT_EQ(plan.waits[2].estimate_s, 100);  // behind 7 on a
  EXPECT_EQ(plan.waits[1].blocking_job, 1);
  EXPECT_EQ(plan.waits[2].blocking_job, 7);
}

TEST(Scheduler, TooFewAgentsSaysHowMany) {
  EXPECT_EQ(FifoScheduler().plan({{queued(1, 3)}, {host(1), host(2)}}, false).waits.at(0).detail,
            "needs 3 agents, 2 match: a, b");
}

TEST(Repetition, FixedAndAdaptive) {
  RepetitionsSpec fixed{3, 3, {}, {}};
  EXPECT_TRUE(wants_another(fixed, 2, {}, 0));
  EXPECT_FALSE(wants_another(fixed, 3, {}, 0));
  RepetitionsSpec adaptive{2, 10, 0.01, 60.0};
  const std::vector<double> calm{100, 100.1, 100}, wild{100, 150, 90};
  EXPECT_FALSE(wants_another(adaptive, 3, calm, 1));
  EXPECT_TRUE(wants_another(adaptive, 3, wild, 1));
  EXPECT_FALSE(wants_another(adaptive, 3, wild, 61));  // never past the cap
  EXPECT_FALSE(wants_another(adaptive, 10, wild, 1));
}

}  // namespace
}  // namespace rackmark::service
