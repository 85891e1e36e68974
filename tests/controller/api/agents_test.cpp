// An agent over HTTP: enrolment, authentication, the held sync, and one run to its result.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include <atomic>
#include <future>

#include "tests/controller/api/controller_fixture.hpp"

namespace rackmark::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using testing::Contains;
using testing::IsEmpty;

class AgentsTest : public ControllerTest {};

// Holds the next list of jobs inside SQLite, on connections that are opened from now on.
class HeldQuery {
 public:
  HeldQuery() { sqlite3_auto_extension(kAttach); }
  ~HeldQuery() {
    sqlite3_cancel_auto_extension(kAttach);
    to(kFree);
  }
  static void arm() { to(kArmed); }
  static bool held() { return state == kHeld; }
  static void release() { to(kFree); }

 private:
  enum State { kFree, kArmed, kHeld };
  static int attach(sqlite3* db, const char**, const void*) {
    return sqlite3_trace_v2(db, SQLITE_TRACE_STMT, before_statement, nullptr);
  }
  static int before_statement(unsigned, void*, void*, void* text) {
    const std::string_view sql = static_cast<const char*>(text);
    State armed = kArmed;
    if (sql.find("FROM jobs WHERE 1") == sql.npos) return 0;
    if (!state.compare_exchange_strong(armed, kHeld)) return 0;
    state.notify_all();
    state.wait(kHeld);
    return 0;
  }
  static void to(State next) {
    state = next;
    state.notify_all();
  }
  static inline const auto kAttach = reinterpret_cast<void (*)()>(&attach);
  static inline std::atomic<State> state = kFree;
};

class SlowQueryTest : HeldQuery, public ControllerTest {
 protected:
  using HeldQuery::arm, HeldQuery::held, HeldQuery::release;
};

TEST_F(SlowQueryTest, APersonsQueryHoldsUpNoAgent) {
  ProtocolAgent agent(controller_.base(), "a");
  arm();
  const auto aside = std::launch::async;
  auto list = std::async(aside, [&] { return client_.call(protocol::kListJobs).has_value(); });
  while (!held()) ASSERT_NE(list.wait_for(1ms), std::future_status::ready);
  auto synced = std::async(aside, [&] { return agent.sync({}, false).has_value(); });
  const auto in_time = synced.wait_for(20s);
  release();
  EXPECT_EQ(in_time, std::future_status::ready);
  EXPECT_TRUE(synced.get());
  EXPECT_TRUE(list.get());
}

TEST_F(AgentsTest, AWholeRunEndsInOneResult) {
  ProtocolAgent agent(controller_.base(), "a");
  const auto job = submit();
  const auto run = agent.wait_for_run();
  EXPECT_EQ(run.job_id, job.id);
  EXPECT_EQ(run.spec["model"], "resnet50");
  EXPECT_EQ(run.spec["resources"]["threads_per_worker"], 4) << "resolved for this host";
  EXPECT_EQ(client_.call(protocol::kShowAgent, agent.id())->state, "busy");
  agent.carry_out(run);

  const auto done = show(job.id);
  ASSERT_EQ(done.state, JobState::kSucceeded) << done.detail;
  EXPECT_DOUBLE_EQ(done.headline.images_per_second.value(), 20.0) << "40 images in 2 s";
  ASSERT_EQ(done.runs.size(), 1u);
  const auto results = client_.call(protocol::kListResults);
  ASSERT_TRUE(results) << results.error().message;
  ASSERT_EQ(results->items.size(), 1u);
  EXPECT_EQ(results->items[0].run_id, run.run_id);
  EXPECT_EQ(results->items[0].steps, 20);
  EXPECT_EQ(results->items[0].agent, "a");

  const auto steps = client_.call(protocol::kRunSteps, run.run_id);
  ASSERT_TRUE(steps) << steps.error().message;
  EXPECT_EQ(steps->ranks.at(0).ms.size(), 20u);
  EXPECT_EQ(steps->ranks.at(0).warmup_ms.size(), 2u);
  const auto logs = client_.call(protocol::kRunLogs, run.run_id);
  ASSERT_TRUE(logs) << logs.error().message;
  ASSERT_EQ(logs->lines.size(), 1u);
  EXPECT_EQ(logs->lines[0].text, "a line");
  EXPECT_TRUE(logs->complete);
  EXPECT_EQ(client_.call(protocol::kShowRun, run.run_id)->state, RunState::kSucceeded);
}

TEST_F(AgentsTest, BatchesAreAcceptedOnce) {
  ProtocolAgent agent(controller_.base(), "a");
  submit();
  const auto run = agent.wait_for_run();
  const std::vector<protocol::LogLine> line{{0, "stderr", "2026-11-21T02:03:04.567Z", "once"}};
  for (int i = 0; i < 3; ++i) {
    const auto receipt = agent.upload(run.run_id, 1, {}, line);
    ASSERT_TRUE(receipt) << receipt.error().message;
    ASSERT_EQ(receipt->accepted.size(), 1u);
    EXPECT_EQ(receipt->accepted[0].up_to_seq, 1);
  }
  EXPECT_EQ(client_.call(protocol::kRunLogs, run.run_id)->lines.size(), 1u);
  const auto foreign = agent.upload(run.run_id + 100, 1, {}, line);
  ASSERT_TRUE(foreign);
  EXPECT_THAT(foreign->refused_runs, Contains(run.run_id + 100));
}

TEST_F(AgentsTest, AgentsOfNewerVersionsAreUnderstood) {
  ProtocolAgent agent(controller_.base(), "a");
  submit();
  const auto run_id = agent.wait_for_run().run_id;
  const auto tell = [&](nlohmann::json run) {
    const auto path = "/api/v1/agents/" + std::to_string(agent.id()) + "/sync";
    run["run_id"] = run_id;
    const nlohmann::json up{
        {"protocol", 1},       {"incarnation", "00000000000000000002"}, {"wait", false},
        {"boot_id", "boot-1"}, {"runs", nlohmann::json::array({run})},  {"newer", {{"x", 1}}}};
    const auto reply = agent.client().request(protocol::Verb::kPost, path, up.dump());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, 200) << reply->body;
  };
  const auto now = [&] { return client_.call(protocol::kShowRun, run_id).value(); };
  tell({{"state", "measuring"}});
  tell({{"state", "levitating"}});
  EXPECT_EQ(now().state, RunState::kMeasuring);
  tell({{"state", "evaporated"}, {"reason", "sunshine"}, {"detail", "hot"}, {"all_gone", true}});
  EXPECT_EQ(now().state, RunState::kFailed);
  EXPECT_EQ(now().reason, Reason::kInternal);
  EXPECT_EQ(now().detail, "hot");
}

TEST_F(AgentsTest, OnlyTheAgentsOwnTokenOpensItsRoutes) {
  ProtocolAgent a(controller_.base(), "a"), b(controller_.base(), "b");
  for (const char* header : {"", "Bearer ", "Bearer nonsense", "Basic YTpi"}) {
    net::BlockingClient stranger(controller_.base());
    if (*header != '\0') stranger.set_header("Authorization", header);
    const auto refused = stranger.call(protocol::kSync, a.id());
    ASSERT_FALSE(refused) << header;
    EXPECT_EQ(refused.error().code, ErrorCode::kUnauthorized) << header;
  }
  const auto crossed = b.client().call(protocol::kUploadEvents, a.id());
  ASSERT_FALSE(crossed);
  EXPECT_EQ(crossed.error().code, ErrorCode::kUnauthorized);
}

TEST_F(AgentsTest, ANameIsHeldByOneAgentUntilItIsRetired) {
  ProtocolAgent a(controller_.base(), "a");
  protocol::Enrolment enrolment;
  enrolment.token = client_.call(protocol::kCreateEnrolmentToken)->token;
  enrolment.name = "a";
  const auto second = client_.call(protocol::kEnrol, {}, {}, enrolment);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_EQ(client_.call(protocol::kListAgents)->items.size(), 1u);
  const auto retired = client_.call(protocol::kRetireAgent, a.id());
  ASSERT_TRUE(retired) << retired.error().message;
  EXPECT_EQ(retired->state, "retired");
  EXPECT_TRUE(client_.call(protocol::kListAgents)->items.empty());
  EXPECT_EQ(a.sync({}, false).error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(client_.call(protocol::kEnrol, {}, {}, enrolment)->agent_id, a.id());
}

TEST_F(AgentsTest, AnIdleSyncIsHeldUntilThereIsWork) {
  ProtocolAgent agent(controller_.base(), "a");
  const auto began = steady_clock::now();
  auto held = std::async(std::launch::async, [&] { return agent.sync({}, true); });
  EXPECT_EQ(held.wait_for(400ms), std::future_status::timeout) << "held while there is nothing";
  submit();
  ASSERT_EQ(held.wait_for(3s), std::future_status::ready) << "woken by the new run";
  EXPECT_LT(steady_clock::now() - began, 3s);
  const auto down = held.get();
  ASSERT_TRUE(down) << down.error().message;
  EXPECT_EQ(down->wanted.size(), 1u);
}

TEST_F(AgentsTest, ANewerSyncAnswersTheHeldOne) {
  ProtocolAgent agent(controller_.base(), "a");
  auto held = std::async(std::launch::async, [&] { return agent.sync({}, true); });
  EXPECT_EQ(held.wait_for(200ms), std::future_status::timeout);
  net::BlockingClient other(controller_.base());
  other.set_header("Authorization", "Bearer " + agent.token());
  protocol::SyncUp up;
  up.incarnation = "00000000000000000002";
  up.boot_id = "boot-" + std::to_string(agent.id());
  up.wait = false;
  ASSERT_TRUE(other.call(protocol::kSync, agent.id(), {}, up));
  ASSERT_EQ(held.wait_for(2s), std::future_status::ready);
  EXPECT_TRUE(held.get());
}

TEST_F(AgentsTest, StoppingAnswersHeldSyncsSoon) {
  ProtocolAgent agent(controller_.base(), "a");
  auto held = std::async(std::launch::async, [&] { return agent.sync({}, true); });
  EXPECT_EQ(held.wait_for(200ms), std::future_status::timeout);
  const auto began = steady_clock::now();
  controller_.stop();
  EXPECT_LT(steady_clock::now() - began, 2s);
  EXPECT_TRUE(held.get()) << "answered, not cut off";
}

TEST_F(AgentsTest, CancelReachesTheAgent) {
  ProtocolAgent agent(controller_.base(), "a");
  const auto job = submit();
  const auto run = agent.wait_for_run();
  ASSERT_TRUE(client_.call(protocol::kCancelJob, job.id));
  EXPECT_TRUE(show(job.id).cancel_requested);
  EXPECT_EQ(show(job.id).state, JobState::kRunning) << "not over before its workers are gone";
  const auto down = agent.sync({}, false);
  ASSERT_TRUE(down);
  EXPECT_THAT(down->cancel, Contains(run.run_id));
}

}  // namespace
}  // namespace rackmark::test
