// Scaling groups: what they are made of, and what they say.
#include "controller/service/scaling.hpp"

#include <gmock/gmock.h>

#include "common/measure/collective_model.hpp"
#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

protocol::NewGroup asked(std::vector<std::int64_t> agents, nlohmann::json more = {}) {
  protocol::NewGroup group;
  group.kind = "scale";
  group.name = "evening";
  group.agents = std::move(agents);
  group.spec = {
      {"model", "resnet50"}, {"batch_size", 16}, {"steps", {{"warmup", 1}, {"measured", 4}}}};
  if (more.is_object()) group.spec.update(more);
  return group;
}

class GroupsTest : public Fleet {
 protected:
  protocol::GroupView create(const protocol::NewGroup& group) {
    auto made = writer->create_group(group);
    if (!made) throw std::runtime_error(made.error().message);
    return *made;
  }
};

TEST_F(GroupsTest, AreOneJobAndItsCeilingForEachNumberOfAgents) {
  const auto group = create(asked({4, 1}, {{"all_reduce", {{"bucket_bytes", 65536}}}}));
  EXPECT_EQ(group.state, JobState::kQueued);
  EXPECT_THAT(group.agents, ElementsAre(1, 4));
  ASSERT_EQ(group.members.size(), 4U);
  std::vector<std::string> what;
  for (const auto& job : group.members) {
    EXPECT_EQ(job.group_id, group.id);
    const auto& spec = job.spec_resolved;
    what.push_back(std::to_string(spec["resources"]["agents"].get<int>()) + " " +
                   job.variable_update + (spec["measure_collectives"].get<bool>() ? " timed" : ""));
  }
  EXPECT_THAT(what, ElementsAre("1 all_reduce timed", "1 independent", "4 all_reduce timed",
                                "4 independent"));
  EXPECT_FALSE(group.members[1].spec_submitted.contains("all_reduce"));
  EXPECT_EQ(group.members[2].spec_submitted["all_reduce"]["bucket_bytes"], 65536);

  const auto page = reader->groups({});
  ASSERT_TRUE(page);
  ASSERT_EQ(page->items.size(), 1U);
  EXPECT_EQ(page->items[0].name, "evening");
  EXPECT_THAT(page->items[0].members, IsEmpty());
  EXPECT_EQ(reader->groups({.kind = "scale"})->items.size(), 1U);
  EXPECT_EQ(reader->groups({.kind = "sweep"}).error().fields.at(0).field, "kind");
  EXPECT_EQ(reader->group(group.id)->members.size(), 4U);
  EXPECT_EQ(reader->group(99).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(reader->scaling(99).error().code, ErrorCode::kNotFound);

  restart_on("UPDATE job_groups SET request = json_set(request, '$.spec.precision', 'fp99')");
  EXPECT_THAT(reader->scaling(group.id)->points.at(1).prediction_why,
              HasSubstr("does not know its spec: field 'precision'"));
}

TEST_F(GroupsTest, CeilingsAreLeftOutWhereTheyAreNotAskedForOrTheJobsThemselves) {
  auto without = asked({1, 2});
  without.ceiling = false;
  EXPECT_EQ(create(without).members.size(), 2U);
  EXPECT_EQ(create(asked({1, 2}, {{"variable_update", "independent"}})).members.size(), 2U);
}

TEST_F(GroupsTest, AWrongMemberStoresNothing) {
  const auto problem = [&](const protocol::NewGroup& group) {
    const auto made = writer->create_group(group);
    return made ? "stored" : made.error().fields.at(0).field;
  };
  EXPECT_EQ(problem(asked({1})), "agents");
  EXPECT_EQ(problem(asked({2, 2})), "agents");
  EXPECT_EQ(problem(asked({0, 2})), "agents");
  EXPECT_EQ(problem(asked({1, 2}, {{"model", "resnet51"}})), "spec.model");
  EXPECT_EQ(problem(asked({1, 2}, {{"mode", "inference"}})), "spec.mode");
  EXPECT_EQ(problem(asked({1, 2}, {{"resources", {{"agents", 2}}}})), "spec.resources.agents");
  EXPECT_EQ(problem(asked({1, 2}, {{"resources", {{"workers", 4}}}})), "spec.resources.workers")
      << "the same number of workers for every number of agents";
  EXPECT_EQ(problem(asked({1, 2}, {{"batch_size", "max"}})), "spec.batch_size")
      << "one agent could, two cannot";
  auto sweep = asked({1, 2});
  sweep.kind = "sweep_firing";
  EXPECT_EQ(problem(sweep), "kind");
  EXPECT_THAT(reader->jobs({})->items, IsEmpty());
  EXPECT_THAT(reader->groups({})->items, IsEmpty());
}

TEST_F(GroupsTest, AreCancelledAsOne) {
  auto agent = enrol("a");
  const auto made = create(asked({1, 2}));  // 2 needs a second agent: two jobs wait for it
  const auto run_id = start_run(agent);
  report_end(agent, run_id, RunState::kFailed, Reason::kNanLoss, 0);
  const auto second = start_run(agent);  // the ceiling on one agent, as the first job is over
  auto view = writer->cancel_group(made.id, "eve");
  ASSERT_TRUE(view) << view.error().message;
  std::map<JobState, int> states;
  for (const auto& job : view->members) ++states[job.state];
  EXPECT_THAT(states, ::testing::UnorderedElementsAre(::testing::Pair(JobState::kFailed, 1),
                                                      ::testing::Pair(JobState::kRunning, 1),
                                                      ::testing::Pair(JobState::kCancelled, 2)));
  EXPECT_EQ(view->state, JobState::kRunning);
  ASSERT_TRUE(writer->cancel_group(made.id)) << "asked again while its workers are being ended";
  report_end(agent, second, RunState::kCancelled, Reason::kCancelledByUser, 0);
  EXPECT_EQ(reader->group(made.id)->state, JobState::kFailed);
  EXPECT_EQ(writer->cancel_group(made.id).error().code, ErrorCode::kConflict);
  EXPECT_EQ(writer->cancel_group(99).error().code, ErrorCode::kNotFound);
}

TEST_F(GroupsTest, TheSameKeyIsTheSameGroup) {
  const Idempotency key{"evening-1", "sha"};
  const auto first = writer->create_group(asked({1, 2}), key);
  const auto second = writer->create_group(asked({1, 2}), key);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->id, second->id);
  EXPECT_EQ(reader->groups({})->items.size(), 1U);
  EXPECT_EQ(writer->create_group(asked({1, 2}), Idempotency{"evening-1", "other"}).error().code,
            ErrorCode::kConflict);
}

TEST_F(GroupsTest, ARerunTakesThePlaceOfWhatFailed) {
  auto agent = enrol("a");
  auto group = asked({1, 2});
  group.ceiling = false;
  group.spec["retries"] = 0;
  const auto made = create(group);
  const auto run_id = start_run(agent);
  report_end(agent, run_id, RunState::kFailed, Reason::kNanLoss, 0);
  auto view = *reader->scaling(made.id);
  ASSERT_EQ(view.points.size(), 5U);
  EXPECT_EQ(view.points[0].images_per_second, std::nullopt);
  EXPECT_THAT(view.points[0].why, HasSubstr("nan loss"));
  EXPECT_EQ(view.points[1].why, "queued");
  EXPECT_THAT(view.points[4].prediction_why, HasSubstr("the base point of 1 agent has no number"));

  const auto again = writer->rerun(made.members[0].id);
  EXPECT_EQ(again->group_id, made.id);
  complete_run(agent);
  view = *reader->scaling(made.id);
  EXPECT_EQ(view.points[0].job_id, again->id);
  EXPECT_NEAR(*view.points[0].images_per_second, 160, 1e-6);
  EXPECT_DOUBLE_EQ(*view.points[0].efficiency, 1);
  EXPECT_THAT(view.points[4].prediction_why, HasSubstr("parameters")) << "not told";
  EXPECT_EQ(reader->group(made.id)->state, JobState::kRunning) << "another job waits";
  ASSERT_TRUE(writer->cancel(made.members[1].id));
  EXPECT_EQ(reader->group(made.id)->state, JobState::kCancelled) << "not failed: it was run again";
}

// --- the numbers, from results by hand

constexpr double kMiB = 1 << 20;
const measure::LinkModel kLink{100e-6, 1e-8};  // 100 us a message, 100 MB/s

// ResNet-50-like: 100 MiB of gradients, 16 images in 4 s, of which 8/3 s are backward.
struct Measured {
  store::GroupRow group;
  std::vector<store::JobRow> members;
  std::map<std::int64_t, protocol::ResultView> results;

  explicit Measured(const protocol::NewGroup& request) {
    group.id = 7;
    group.request = json::encode(request);
  }
  void add(std::int64_t agents, const std::string& update, double step_s, double exposed_s) {
    store::JobRow& job = members.emplace_back();
    job.id = static_cast<std::int64_t>(members.size());
    job.agents_wanted = agents;
    job.variable_update = update;
    job.state = JobState::kSucceeded;
    protocol::ResultView& r = results[job.id];
    r.device_class = "cpu";
    r.ranks = agents;
    r.steps = 10;
    r.images = 160 * agents;
    r.images_per_second = static_cast<double>(16 * agents) / step_s;
    r.environment = {{"worker", {{"parameters", 25 * kMiB}}}};
    for (std::int64_t rank = 0; rank < agents; ++rank) {
      protocol::RankTime& time = r.rank_times.emplace_back();
      time.rank = rank;
      time.step_ms = step_s * 1e3;
      time.exposed_communication_ms = exposed_s * 1e3;
    }
    if (update == "all_reduce" && agents > 1) {
      for (const std::int64_t bytes : {4096, 65536, 4194304}) {
        const auto cost = measure::cheapest_all_reduce(agents, static_cast<double>(bytes), kLink);
        r.all_reduce_times.push_back({agents, bytes, 5, measure::seconds_of(cost, kLink)});
      }
    }
    job.images_per_second = r.images_per_second;
    job.spread_kind = "steps";
    job.headline_runs = 1;
  }
  protocol::ScalingView view() const { return scaling_of(group, members, results); }
};

TEST(Scaling, SaysEfficiencyExposedCommunicationAndThePredictionWithItsError) {
  Measured measured(asked({1, 2, 4}));
  measured.add(1, "all_reduce", 4, 0);
  measured.add(1, "independent", 4, 0);
  measured.add(2, "all_reduce", 5, 0.5);
  measured.add(2, "independent", 4.5, 0);
  measured.add(4, "all_reduce", 8, 2);
  const auto view = measured.view();
  ASSERT_EQ(view.points.size(), 6U);
  EXPECT_EQ(view.base_agents, 1);
  const auto &one = view.points[0], &two = view.points[1], &four = view.points[2];
  EXPECT_DOUBLE_EQ(*one.efficiency, 1);
  EXPECT_DOUBLE_EQ(*two.efficiency, 0.8);
  EXPECT_DOUBLE_EQ(*two.speed_up, 1.6);
  EXPECT_DOUBLE_EQ(*two.exposed_communication_ms, 500);
  EXPECT_DOUBLE_EQ(*two.exposed_communication_share, 0.1);
  EXPECT_DOUBLE_EQ(*two.share_of_ceiling, 0.9);
  EXPECT_DOUBLE_EQ(*two.ceiling_efficiency, 4 / 4.5);
  EXPECT_EQ(four.ceiling_images_per_second, std::nullopt);
  EXPECT_FALSE(four.ceiling_why.empty());
  EXPECT_EQ(four.rank_times.size(), 4U);
  EXPECT_EQ(two.runs, 1);
  EXPECT_EQ(two.spread_kind, "steps");

  ASSERT_TRUE(view.link);
  EXPECT_EQ(view.link->agents, 2) << "of the fewest that timed it";
  EXPECT_NEAR(view.link->alpha_s, kLink.alpha_s, 1e-9);
  EXPECT_NEAR(*view.link->bytes_per_second, 1e8, 1e3);
  EXPECT_FALSE(one.predicted_images_per_second) << one.prediction_why;
  // 2 ranks: 100 MiB at 100 MB/s take 1.05 s, all but the last bucket (1 MiB) behind backward.
  EXPECT_NEAR(*two.predicted_exposed_ms, 1048576e-5 + 0.1, 1e-3);
  EXPECT_NEAR(*two.prediction_error, 5 / (4 + *two.predicted_exposed_ms * 1e-3) - 1, 1e-9);
  EXPECT_NEAR(*view.largest_error, *four.prediction_error, 1e-12);

  const auto& beyond = view.points[5];
  EXPECT_EQ(beyond.agents, 32);
  EXPECT_EQ(beyond.ranks, 32);
  EXPECT_EQ(beyond.job_id, std::nullopt);
  EXPECT_FALSE(beyond.prediction_error);
  ASSERT_TRUE(beyond.predicted_efficiency);
  EXPECT_LT(*beyond.predicted_efficiency, 1);
  EXPECT_GT(*beyond.predicted_efficiency, 0.9);
}

TEST(Scaling, WhatCannotBePredictedSaysWhy) {
  Measured server(asked({1, 2}, {{"variable_update", "parameter_server"}}));
  server.add(1, "parameter_server", 4, 0);
  server.add(2, "parameter_server", 5, 1);
  EXPECT_FALSE(server.view().points[1].predicted_images_per_second);
  EXPECT_THAT(server.view().points[1].prediction_why, HasSubstr("parameter server"));
  EXPECT_DOUBLE_EQ(*server.view().points[1].efficiency, 0.8);

  Measured one_size(asked({1, 2}));
  one_size.add(1, "all_reduce", 4, 0);
  one_size.add(2, "all_reduce", 5, 1);
  one_size.results[2].all_reduce_times.resize(1);
  EXPECT_THAT(one_size.view().link_why, HasSubstr("job 2"));
  EXPECT_EQ(one_size.view().points[4].prediction_why, one_size.view().link_why);
  EXPECT_EQ(one_size.view().median_error, std::nullopt);

  one_size.results[2].device_class = "another";
  EXPECT_EQ(one_size.view().points[1].efficiency, std::nullopt);
  EXPECT_THAT(one_size.view().points[1].why, HasSubstr("device class another"));

  Measured elsewhere(asked({1, 2}));
  elsewhere.add(1, "all_reduce", 4, 0);
  elsewhere.add(1, "independent", 4, 0);
  elsewhere.results[2].device_class = "another";
  const auto apart = elsewhere.view().points[0];
  EXPECT_EQ(apart.share_of_ceiling, std::nullopt);
  EXPECT_EQ(apart.ceiling_efficiency, std::nullopt);
  EXPECT_THAT(apart.ceiling_why, HasSubstr("device class another"));

  Measured alone(asked({1, 2}, {{"variable_update", "independent"}}));
  alone.add(1, "independent", 4, 0);
  alone.add(2, "independent", 4.4, 0);
  EXPECT_NEAR(*alone.view().points[1].prediction_error, 0.1, 1e-12) << "no exchange, no network";
}

}  // namespace
}  // namespace rackmark::service
