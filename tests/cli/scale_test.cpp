#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli_run.hpp"
#include "common/protocol/groups.hpp"
#include "fake_controller.hpp"

namespace rackmark::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A group of two jobs, the second of which ends as `second`.
class FakeGroup {
 public:
  explicit FakeGroup(RunState second) : second_(second) {}
  std::string url() const { return controller_.url(); }
  std::vector<FakeRequest> requests() const { return controller_.requests(); }

 private:
  FakeReply answer(const FakeRequest& request) const {
    protocol::GroupView group;
    group.id = 3;
    group.members = {job(5, RunState::kSucceeded), job(6, second_)};
    if (request.method == "POST") return {201, json::encode(group)};
    if (request.target == "/api/v1/groups/3") return {200, json::encode(group)};
    if (request.target == "/api/v1/groups/3/scaling") return {200, json::encode(scaling())};
    return {200, json::encode(group.members.at(request.target.ends_with("5") ? 0 : 1))};
  }
  static protocol::JobView job(std::int64_t id, RunState outcome) {
    protocol::JobView view;
    view.id = id;
    view.outcome = outcome;
    view.state = outcome == RunState::kSucceeded ? JobState::kSucceeded : JobState::kFailed;
    return view;
  }
  protocol::ScalingView scaling() const {
    protocol::ScalingView view;
    view.group_id = 3;
    view.points.resize(3);
    auto &one = view.points[0], &two = view.points[1], &beyond = view.points[2];
    one.agents = 1;
    one.job_id = 5;
    one.ranks = 1;
    one.images_per_second = 100.0;
    one.efficiency = 1.0;
    two.agents = 2;
    two.job_id = 6;
    if (second_ == RunState::kSucceeded) {
      two.ranks = 2;
      two.images_per_second = 180.0;
      two.spread = 0.012;
      two.speed_up = 1.8;
      two.efficiency = 0.9;
      two.exposed_communication_ms = 12.34;
      two.exposed_communication_share = 0.069;
      two.predicted_images_per_second = 174.6;
      two.prediction_error = -0.03;
      view.median_error = view.largest_error = 0.03;
      view.link = protocol::ScalingLink{6, 2, 52e-6, 1.17e9, {{2, 4096, 5, 1e-4}}};
    } else {
      two.why = "out of memory: too large\x1b[2J";
      view.link_why = "no job over several agents has timed its network yet";
    }
    beyond.agents = 4;
    beyond.predicted_images_per_second = view.link ? std::optional<double>(340) : std::nullopt;
    if (!view.link) beyond.prediction_why = view.link_why;
    return view;
  }

  RunState second_;
  FakeController controller_{[this](const FakeRequest& request) { return answer(request); }};
};

TEST(CliScale, SubmitsWatchesAndPrintsTheTable) {
  const FakeGroup group(RunState::kSucceeded);
  const Ran ran = run_cli(group.url(), {"scale", "--agents", "1,2", "--model", "resnet50", "--name",
                                        "evening", "--steps.measured", "20", "--watch"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  const Json body = Json::parse(group.requests().at(0).body);
  EXPECT_EQ(body,
            (Json{{"kind", "scale"},
                  {"name", "evening"},
                  {"agents", {1, 2}},
                  {"ceiling", true},
                  {"spec",
                   {{"model", "resnet50"}, {"name", "evening"}, {"steps", {{"measured", 20}}}}}}));
  EXPECT_FALSE(group.requests().at(0).headers.at("idempotency-key").empty());
  EXPECT_THAT(ran.out, AllOf(HasSubstr("180 ±1.2 %"), HasSubstr("1.80x"), HasSubstr("90.0 %"),
                             HasSubstr("12.3 ms (6.9 %)"), HasSubstr("175"), HasSubstr("-3.0 %"),
                             HasSubstr("predicted only"), HasSubstr("340")));
  EXPECT_THAT(ran.out, HasSubstr("network: 52 us a message, 1.170 GB/s; fitted to 1 all-reduces "
                                 "that job 6 timed on 2 agents"));
  EXPECT_THAT(ran.out, HasSubstr("prediction error on the measured points: median 3.0 %"));
}

TEST(CliScale, TheStatusIsThatOfTheFirstJobThatDidNotSucceed) {
  const FakeGroup group(RunState::kOutOfMemory);
  const Ran watched = run_cli(group.url(), {"scale", "--show", "3", "--watch"});
  EXPECT_EQ(watched.status, 3) << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("2 agents (job 6): out of memory: too large?[2J\n"));
  EXPECT_THAT(watched.out, HasSubstr("no prediction: no job over several agents"));
  EXPECT_EQ(run_cli(group.url(), {"scale", "--show", "3"}).status, 0) << "showing is no failure";
  const Ran as_json = run_cli(group.url(), {"scale", "--show", "3", "--json"});
  EXPECT_EQ(Json::parse(as_json.out)["points"].size(), 3U);
  EXPECT_TRUE(Json::parse(as_json.out)["points"][1]["images_per_second"].is_null());
  const Ran submitted = run_cli(group.url(), {"scale", "--agents", "1,2", "--no-ceiling"});
  EXPECT_EQ(submitted.status, 0);
  EXPECT_THAT(submitted.out, HasSubstr("rackmark scale --watch --show 3"));
  EXPECT_EQ(Json::parse(group.requests().back().body)["ceiling"], false);
}

TEST(CliScale, BadUsageIsStatus2) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"scale"},
                                                    {"scale", "--agents", "1,x"},
                                                    {"scale", "--agents", "1,2", "--show", "3"},
                                                    {"scale", "--show", "3", "--no-ceiling"}}) {
    EXPECT_EQ(run_cli("http://127.0.0.1:1", arguments).status, 2) << arguments.back();
  }
}

}  // namespace
}  // namespace rackmark::cli
