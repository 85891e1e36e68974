// What agents hand in: batches of events, taken once and in order, and what people see of them.
#include <gmock/gmock.h>

#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class IntakeTest : public Fleet {};

TEST_F(IntakeTest, BatchesAreTakenOnceAndInOrder) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  const auto batch = [&](std::int64_t seq, const std::string& text) {
    protocol::EventBatch b = batch_of(run_id, seq);
    b.logs = {{0, "stdout", "", text}};
    return b;
  };
  const auto up_to = [&](std::vector<protocol::EventBatch> b) {
    return writer->accept_events(agent.id, {std::move(b)})->accepted.at(0).up_to_seq;
  };
  EXPECT_EQ(up_to({batch(2, "two"), batch(1, "one")}), 2);
  EXPECT_EQ(up_to({batch(1, "one again"), batch(2, "two again")}), 2);
  EXPECT_EQ(up_to({batch(4, "four")}), 2);  // 3 is missing
  EXPECT_EQ(up_to({batch(3, "three"), batch(4, "four")}), 4);
  std::vector<std::string> lines;
  const auto page = reader->logs(run_id, {}).value();
  for (const auto& line : page.lines) lines.push_back(line.text);
  EXPECT_THAT(lines, ElementsAre("one", "two", "three", "four"));
}

TEST_F(IntakeTest, EventsOfAnotherAgentAreRefused) {
  auto agent = enrol("a");
  auto other = enrol("b");
  submit(spec());
  const auto run_id = start_run(agent);
  protocol::EventBatch batch = batch_of(run_id);
  EXPECT_THAT(writer->accept_events(other.id, {{batch}})->refused_runs, ElementsAre(run_id));
  batch.run_id = 4711;
  EXPECT_THAT(writer->accept_events(agent.id, {{batch}})->refused_runs, ElementsAre(4711));
}

TEST_F(IntakeTest, SillyEventsAreSkippedAndTheBatchIsTaken) {
  auto agent = enrol("a");
  submit(spec());
  const auto run_id = start_run(agent);
  protocol::EventBatch batch = batch_of(run_id);
  batch.events = {nullptr,
                  7,
                  "x",
                  nlohmann::json::array(),
                  event("steps", 0, {{"ms", "many"}}),
                  event("steps", 0, {{"phase", "measuring"}, {"first_step", -4}, {"ms", {1}}}),
                  event("steps", 0, {{"phase", "measuring"}, {"first_step", 1e18}, {"ms", {1}}}),
                  event("steps", 9, {{"phase", "measuring"}, {"first_step", 0}, {"ms", {1}}}),
                  event("steps", 0, {{"phase", "measuring"}, {"ms", {1}}, {"loss", {1, 2}}}),
                  event("from_the_future", 0, {}),
                  event("phase", 0, {{"phase", 5}})};
  EXPECT_EQ(writer->accept_events(agent.id, {{batch}})->accepted.at(0).up_to_seq, 1);
  EXPECT_THAT(reader->steps(run_id)->ranks, IsEmpty());
}

TEST_F(IntakeTest, LiveProgressIsShownAndTold) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(agent);
  auto sent = batches(run_id, {.ms = 80});
  sent[0].events.pop_back();
  ASSERT_TRUE(writer->accept_events(agent.id, {sent}));
  const auto progress = run(run_id).progress;
  EXPECT_EQ(progress.phase, "measuring");
  EXPECT_EQ(progress.steps_done, 4);
  EXPECT_EQ(progress.steps_planned, 4);
  EXPECT_NEAR(*progress.images_per_second, 200, 1e-4);
  EXPECT_NEAR(*progress.loss, 6.5, 1e-6);
  ASSERT_EQ(live.size(), 2U);
  EXPECT_EQ(live[0].event, "steps");
  EXPECT_EQ(live[0].data["job_id"], id);
  EXPECT_EQ(live[0].data["ms"].size(), 4U);
  EXPECT_EQ(live[1].event, "logs");
  EXPECT_EQ(live[1].data["lines"][0]["number"], 1);

  protocol::EventBatch host = batch_of(run_id, std::ssize(sent) + 1);
  host.events = {event("telemetry", 0, {{"cpu_fraction", 0.5}, {"t_ns", 77}})};
  ASSERT_TRUE(writer->accept_events(agent.id, {{host}}));
  ASSERT_EQ(live.size(), 3U);
  EXPECT_EQ(live[2].event, "telemetry");
  EXPECT_EQ(live[2].data["t_ns"], 77) << "a chart over time needs it";
}

TEST_F(IntakeTest, EventsOfTheLogAreRowsInOrderAndResumable) {
  auto agent = enrol("a");
  const auto id = submit(spec()).id;
  complete_run(agent);
  const auto all = reader->events_after(0, std::nullopt, 1000);
  ASSERT_EQ(all.size(), events.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].id, events[i].id);
    EXPECT_EQ(all[i].data, events[i].data);
  }
  EXPECT_EQ(all.back().id, reader->newest_event_id());
  const auto of_job = reader->events_after(all[1].id, id, 1000);
  for (const auto& entry : of_job) EXPECT_EQ(entry.job_id, id);
  std::vector<std::string> states;
  for (const auto& entry : of_job) {
    if (entry.event == "run") states.push_back(entry.data["state"]);
  }
  EXPECT_THAT(states, ElementsAre("reserved", "measuring", "succeeded"));
  EXPECT_FALSE(of_job.back().data.contains("spec_submitted"));
}

}  // namespace
}  // namespace rackmark::service
