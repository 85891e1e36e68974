#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "cli_run.hpp"
#include "common/protocol/groups.hpp"
#include "fake_controller.hpp"

namespace rackmark::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

FakeReply problem(int status, const std::string& detail) {
  return {status, json::encode(protocol::Problem{.status = status, .detail = detail})};
}

TEST(CliCommands, JobsIsATableWithFilters) {
  FakeController controller([](const FakeRequest&) {
    protocol::JobPage page;
    page.items.resize(2);
    page.items[0].id = 12;
    page.items[0].state = JobState::kSucceeded;
    page.items[0].model = "resnet50";
    page.items[0].headline = {4812, {0.006, "runs"}, 5};
    page.items[0].agents = {"a", "b"};
    page.items[0].created_at = "2026-11-21T02:03:04.567Z";
    page.items[1].id = 9;
    page.items[1].name = "evil\x1b[2J";
    page.items[1].state = JobState::kFailed;
    page.items[1].outcome = RunState::kOutOfMemory;
    page.next_cursor = "9";
    return FakeReply{200, json::encode(page)};
  });
  const Ran ran = run_cli(controller.url(), {"jobs", "--state", "active", "--model", "resnet50",
                                             "--limit", "2", "--label", "a=b c"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("4,812 img/s ±0.6 % (n=5)"));
  EXPECT_THAT(ran.out, HasSubstr("out of memory"));
  EXPECT_THAT(ran.out, HasSubstr("evil?[2J"));
  EXPECT_THAT(ran.out, HasSubstr("more: --cursor 9\n"));
  const std::string target = controller.requests()[0].target;
  EXPECT_THAT(target, HasSubstr("state=active"));
  EXPECT_THAT(target, HasSubstr("limit=2"));
  EXPECT_THAT(target, HasSubstr("label=a%3Db%20c"));
  const Ran as_json = run_cli(controller.url(), {"jobs", "--json"});
  EXPECT_EQ(Json::parse(as_json.out)["items"].size(), 2u);
}

TEST(CliCommands, AnEmptyListTellsTheNextStep) {
  FakeController controller([](const FakeRequest& request) {
    if (request.target.starts_with("/api/v1/agents")) {
      return FakeReply{200, json::encode(protocol::AgentList{{}, "deploy/pack"})};
    }
    return FakeReply{200, {{"items", Json::array()}, {"next_cursor", nullptr}}};
  });
  EXPECT_THAT(run_cli(controller.url(), {"jobs"}).out, HasSubstr("rackmark submit"));
  EXPECT_THAT(run_cli(controller.url(), {"results"}).out, HasSubstr("rackmark submit"));
  EXPECT_THAT(run_cli(controller.url(), {"agents"}).out, HasSubstr("deploy/pack"));
}

TEST(CliCommands, WhatTheControllerRefusesIsStatus2AndItsWords) {
  FakeController controller([](const FakeRequest&) { return problem(404, "there is no job 99"); });
  for (const char* command : {"show", "watch", "logs", "cancel", "rerun"}) {
    const Ran ran = run_cli(controller.url(), {command, "99"});
    EXPECT_EQ(ran.status, 2) << command;
    EXPECT_EQ(ran.err, "rackmark: there is no job 99\n") << command;
  }
}

TEST(CliCommands, ABrokenControllerIsStatus1) {
  FakeController controller([](const FakeRequest&) { return problem(500, "internal"); });
  EXPECT_EQ(run_cli(controller.url(), {"jobs"}).status, 1);
  FakeController not_ours([](const FakeRequest&) { return FakeReply{200, "hello"}; });
  EXPECT_NE(run_cli(not_ours.url(), {"jobs"}).status, 0);
}

TEST(CliCommands, ProfilePrintsTheDearestRowsFirst) {
  FakeController controller([](const FakeRequest& request) {
    if (request.target == "/api/v1/jobs/3") {
      protocol::JobView job;
      job.id = 3;
      job.runs.resize(2);
      job.runs[0].id = 7;
      job.runs[0].state = RunState::kSucceeded;
      job.runs[1].id = 8;
      return FakeReply{200, json::encode(job)};
    }
    if (request.target != "/api/v1/runs/7/profile") return problem(404, request.target);
    protocol::ProfileView view;
    view.run_id = 7;
    view.profile.passes = 5;
    view.profile.sum_ms = 98;
    view.profile.step_ms = 100;
    view.profile.sum_over_step = 0.98;
    view.profile.convolution_bound_ms = 85;
    view.profile.convolution_bound_share = 0.85;
    view.profile.rows = {{"conv1", "forward", "jit:avx2", 8, 0.08, 120.5, 3.25, false},
                         {"fc\x1b[2J", "backward_weights", "ref:any", 90, 0.92, {}, {}, true}};
    view.profile.warnings = {"plain loops in a hot layer: fc"};
    return FakeReply{200, json::encode(view)};
  });
  const Ran ran = run_cli(controller.url(), {"profile", "3"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("a separate pass after the measured window, median of 5 passes"));
  EXPECT_LT(ran.out.find("backward weights"), ran.out.find("conv1")) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("ratio 0.980"));
  EXPECT_THAT(ran.out, HasSubstr("convolution-only bound 85.0 ms, share reached 85.0 %"));
  EXPECT_THAT(ran.out, HasSubstr("warning: plain loops"));
  EXPECT_EQ(ran.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(run_cli(controller.url(), {"profile", "3", "--rows", "1"}).out.find("conv1"),
            std::string::npos);
  EXPECT_EQ(run_cli(controller.url(), {"profile", "9", "--run"}).status, 2);
}

TEST(CliCommands, BadUsageIsNamedAndUnderJsonAnObject) {
  EXPECT_EQ(run_cli("", {"frob"}).err,
            "rackmark: there is no command 'frob' (see rackmark --help)\n");
  EXPECT_THAT(run_cli("", {"jobs", "--frob", "1"}).err, HasSubstr("--frob"));
  EXPECT_THAT(run_cli("", {"agents", "frob"}).err, HasSubstr("frob"));
  EXPECT_THAT(run_cli("", {}).err, HasSubstr("subcommand"));
  for (const std::vector<std::string>& bad : {std::vector<std::string>{"--json", "frob"},
                                              {"show", "x", "--json"},
                                              {"cancel", "--json"},
                                              {"jobs", "--limit", "x", "--json"}}) {
    const Ran ran = run_cli("", bad);
    EXPECT_EQ(ran.status, 2) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(Json::parse(ran.err)["status"], 422) << ran.err;
  }
  FakeController controller([](const FakeRequest&) { return problem(404, "there is no job 99"); });
  const Json refused = Json::parse(run_cli(controller.url(), {"show", "99", "--json"}).err);
  EXPECT_EQ(refused["status"], 404);
  EXPECT_EQ(refused["detail"], "there is no job 99");
  const Ran help = run_cli("", {"results", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.out,
              AllOf(HasSubstr("--since TIME"), HasSubstr("RFC 3339"), HasSubstr("--limit NUMBER")));
}

TEST(CliCommands, IdsAreNumbers) {
  for (const char* command : {"show", "watch", "logs", "cancel", "rerun"}) {
    EXPECT_EQ(run_cli("http://127.0.0.1:1", {command, "x"}).status, 2) << command;
    EXPECT_EQ(run_cli("http://127.0.0.1:1", {command}).status, 2) << command;
  }
}

TEST(CliCommands, ShowingAFailedJobIsNoFailure) {
  FakeController controller([](const FakeRequest& request) {
    protocol::RunView run;
    run.id = 7;
    run.job_id = 3;
    run.state = RunState::kFailed;
    run.reason = Reason::kNanLoss;
    run.agent = "host-1";
    run.transitions = {{"measuring", "agent", "2026-11-21T02:03:04.567Z", {}, "none", ""},
                       {"failed", "agent", "2026-11-21T02:03:05.000Z", {}, "nan_loss", "rank 0"}};
    if (request.target == "/api/v1/runs/7") return FakeReply{200, json::encode(run)};
    protocol::JobView job;
    job.id = 3;
    job.state = JobState::kFailed;
    job.outcome = RunState::kFailed;
    job.reason = Reason::kNanLoss;
    job.detail = "loss was NaN at step 4 of rank 0";
    job.runs = {run};
    return FakeReply{200, json::encode(job)};
  });
  const Ran job = run_cli(controller.url(), {"show", "3"});
  EXPECT_EQ(job.status, 0);
  EXPECT_THAT(job.out, HasSubstr("job 3 failed: nan loss\n  loss was NaN at step 4"));
  EXPECT_THAT(job.out, HasSubstr("host-1"));
  const Ran run = run_cli(controller.url(), {"show", "7", "--run"});
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.out, HasSubstr("02:03:05Z  failed by agent: nan loss, rank 0\n"));
}

// Takes so many bytes, then fails like a pipe whose reader has gone.
class ShortPipe : public std::streambuf {
 public:
  explicit ShortPipe(int room) : room_(room) {}

 private:
  int_type overflow(int_type c) override { return room_-- > 0 ? c : traits_type::eof(); }
  int room_;
};

TEST(CliCommands, LogsFollowToTheEnd) {
  int page_number = 0;
  FakeController controller([&](const FakeRequest& request) {
    if (request.target == "/api/v1/jobs/3") {
      protocol::JobView job;
      job.id = 3;
      job.runs.resize(2);
      job.runs[1].id = 8;
      return FakeReply{200, json::encode(job)};
    }
    protocol::LogPage page;
    page.run_id = 8;
    ++page_number;
    if (page_number == 2) return FakeReply{200, json::encode(protocol::LogPage{8, {}, 1, false})};
    page.last_number = page_number == 1 ? 1 : 2;
    page.complete = page_number == 3;
    page.lines = {{page.last_number, page_number == 1 ? -1 : 0, "agent", "", "line\x1b"}};
    return FakeReply{200, json::encode(page)};
  });
  const Ran ran = run_cli(controller.url(), {"logs", "3", "--follow"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "[agent] line?\n[0] line?\n");
  EXPECT_THAT(controller.requests().back().target, HasSubstr("/api/v1/runs/8/logs?after=1"));
}

TEST(CliCommands, LogsFollowForAsLongAsTheyAreReadAndTheControllerAnswers) {
  FakeController controller([](const FakeRequest& request) {
    if (request.target == "/api/v1/jobs/3")
      return FakeReply{200, json::encode(protocol::JobView{})};
    if (request.target == "/api/v1/runs/9/logs") return problem(503, "stopping");
    if (request.target.starts_with("/api/v1/runs/9/")) return problem(404, request.target);
    return FakeReply{200,
                     json::encode(protocol::LogPage{8, {{1, 0, "stdout", "", "x"}}, 1, false})};
  });
  const Ran none = run_cli(controller.url(), {"logs", "3"});
  EXPECT_EQ(none.status, 1);
  EXPECT_THAT(none.err, HasSubstr("job 3 has no run and so no log"));
  ShortPipe pipe(20);
  std::ostream out(&pipe);
  std::ostringstream err;
  std::istringstream in;
  Context context(out, err, in);
  run({"--controller", controller.url(), "logs", "8", "--run", "--follow"}, context);
  EXPECT_FALSE(out) << "and it came back";
  const Ran gone = run_cli(controller.url(), {"logs", "9", "--run", "--follow"});
  EXPECT_EQ(gone.status, 7);
  EXPECT_EQ(gone.err, "stopping; trying again\nrackmark: stopping\n");
  EXPECT_GT(controller.requests().size(), 8u) << "asked again for as long as it has patience";
  EXPECT_EQ(run_cli(controller.url(), {"logs", "9", "--run"}).err, "rackmark: stopping\n");
}

TEST(CliCommands, LogsWithoutFollowReadsAllPages) {
  FakeController controller([](const FakeRequest& request) {
    protocol::LogPage page;
    const bool first = request.target.find("after=") == std::string::npos;
    const int count = first ? 1000 : 5;
    for (int i = 1; i <= count; ++i)
      page.lines.push_back({(first ? 0 : 1000) + i, 0, "stdout", "", "x"});
    page.last_number = page.lines.back().number;
    return FakeReply{200, json::encode(page)};
  });
  const Ran ran = run_cli(controller.url(), {"logs", "8", "--run"});
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1005);
  EXPECT_EQ(controller.requests().size(), 2u);
}

TEST(CliCommands, CancelAndRerun) {
  FakeController controller([](const FakeRequest& request) {
    protocol::JobView job;
    job.id = request.target.ends_with(":rerun") ? 43 : 42;
    job.state = request.method == "POST" ? JobState::kRunning : JobState::kCancelled;
    return FakeReply{request.target.ends_with(":rerun") ? 201 : 200, json::encode(job)};
  });
  EXPECT_EQ(run_cli(controller.url(), {"cancel", "42"}).out,
            "job 42: its workers are being ended\n");
  EXPECT_EQ(controller.requests().back().target, "/api/v1/jobs/42:cancel");
  EXPECT_THAT(run_cli(controller.url(), {"rerun", "42"}).out, HasSubstr("job 43 submitted"));
  // Cancelled as asked is success; being cancelled under a watcher is not.
  EXPECT_EQ(run_cli(controller.url(), {"cancel", "42", "--watch"}).status, 0);
  EXPECT_EQ(run_cli(controller.url(), {"watch", "42"}).status, 4);
}

TEST(CliCommands, GroupsAreListedAndCancelled) {
  FakeController controller([](const FakeRequest& request) {
    protocol::GroupView group;
    group.id = 3;
    group.kind = "scale";
    group.name = "even\x1b[2Jing";
    group.state = JobState::kRunning;
    group.agents = {1, 2};
    group.spec = {{"model", "resnet50"}};
    if (request.method == "GET")
      return FakeReply{200, {{"items", {json::encode(group)}}, {"next_cursor", "3"}}};
    group.members.resize(3);
    group.members[0].state = JobState::kSucceeded;
    group.members[1].state = JobState::kRunning;
    return FakeReply{200, json::encode(group)};
  });
  const Ran list = run_cli(controller.url(), {"groups", "--kind", "scale", "--limit", "1"});
  EXPECT_EQ(list.status, 0) << list.err;
  EXPECT_THAT(list.out, AllOf(HasSubstr("resnet50"), HasSubstr("1,2"), HasSubstr("--cursor 3")));
  EXPECT_EQ(list.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(controller.requests().back().target, "/api/v1/groups?kind=scale&limit=1");
  EXPECT_EQ(run_cli(controller.url(), {"cancel", "--group", "3"}).out,
            "group 3: the workers of 2 jobs are being ended\n");
  EXPECT_EQ(controller.requests().back().target, "/api/v1/groups/3:cancel");
  for (const std::vector<std::string>& bad : {std::vector<std::string>{"cancel"},
                                              {"cancel", "4", "--group", "3"},
                                              {"cancel", "--group", "3", "--watch"},
                                              {"cancel", "0"},
                                              {"cancel", "-1"}}) {
    EXPECT_EQ(run_cli(controller.url(), bad).status, 2) << bad.back();
  }
}

TEST(CliCommands, ATokenStandsAloneOnStandardOutput) {
  FakeController controller([](const FakeRequest&) {
    return FakeReply{201, {{"token", "rmt_abc"}, {"expires_at", "2026-11-21T03:00:00.000Z"}}};
  });
  const Ran ran = run_cli(controller.url(), {"agents", "token", "--valid_s", "60"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(ran.out, "rmt_abc\n");
  EXPECT_THAT(ran.err, HasSubstr("2026-11-21 03:00:00Z"));
  const auto requests = controller.requests();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].target, "/api/v1/enrolment-tokens");
  EXPECT_EQ(Json::parse(requests[0].body)["valid_s"], 60);
}

TEST(CliCommands, AgentsAreATable) {
  FakeController controller([](const FakeRequest&) {
    protocol::AgentList list;
    list.items.resize(1);
    auto& agent = list.items[0];
    agent.id = 1;
    agent.name = "host-1";
    agent.state = "idle";
    agent.labels = {{"fleet", "cpu"}, {"site", "a"}};
    agent.last_seen_s = 2.4;
    agent.inventory.cpu.physical_cores = 2;
    agent.inventory.memory_bytes = 16'750'000'000;
    return FakeReply{200, json::encode(list)};
  });
  const Ran ran = run_cli(controller.url(), {"agents"});
  EXPECT_THAT(ran.out, HasSubstr("host-1"));
  EXPECT_THAT(ran.out, HasSubstr("15.6 GiB"));
  EXPECT_THAT(ran.out, HasSubstr("2 s ago    fleet=cpu,site=a"));
}

TEST(CliCommands, AnAgentIsShownAndRetired) {
  FakeController controller([](const FakeRequest& request) {
    protocol::AgentView agent;
    agent.id = 3;
    agent.name = "host-1";
    agent.state = "lost";
    agent.state_detail = "no sync\x1b";
    agent.inventory.cpu.physical_cores = 64;
    agent.inventory.gpus = {{"NVIDIA H200", "u1", "580.65", 150'000'000'000}};
    agent.inventory.versions = {{"openmpi", "4.1.4"}};
    agent.inventory.notes = {"GPU 1 is left out: MIG is on"};
    if (!request.target.starts_with("/api/v1/agents/3")) return problem(404, "there is no agent 4");
    return FakeReply{200, json::encode(agent)};
  });
  const Ran shown = run_cli(controller.url(), {"agents", "show", "3"});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, AllOf(HasSubstr("agent 3 host-1: lost, never seen\n  why: no sync?\n"),
                               HasSubstr("64 cores"), HasSubstr("GPU: NVIDIA H200, 140 GiB"),
                               HasSubstr("does not count: GPU 1 is left out: MIG is on"),
                               HasSubstr("openmpi: 4.1.4")));
  const Ran retired = run_cli(controller.url(), {"agents", "retire", "3"});
  EXPECT_THAT(retired.out, HasSubstr("the name host-1 is free"));
  EXPECT_EQ(controller.requests().back().method, "POST");
  EXPECT_EQ(controller.requests().back().target, "/api/v1/agents/3:retire");
  EXPECT_EQ(run_cli(controller.url(), {"agents", "retire", "4"}).status, 2);
  EXPECT_EQ(run_cli(controller.url(), {"agents", "retire"}).status, 2);
}

FakeReply result_page(const FakeRequest& request) {
  protocol::ResultPage page;
  page.items.resize(1);
  const bool second = request.target.find("cursor=next") != std::string::npos;
  page.items[0].id = second ? 1 : 2;
  page.items[0].job_name = "night, \"one\"";
  page.items[0].images_per_second = 7.5;
  if (!second) page.next_cursor = "next";
  return {200, json::encode(page)};
}

TEST(CliCommands, ExportWritesEveryPage) {
  FakeController controller(result_page);
  const Ran csv = run_cli(controller.url(), {"export", "--model", "resnet50"});
  EXPECT_EQ(csv.status, 0) << csv.err;
  EXPECT_THAT(csv.out, testing::StartsWith("result_id,job_id,run_id,job_name,"));
  EXPECT_THAT(csv.out, HasSubstr("\r\n2,0,0,\"night, \"\"one\"\"\","));
  EXPECT_THAT(csv.out, HasSubstr("\r\n1,0,0,"));
  EXPECT_EQ(csv.err, "2 results exported\n");
  EXPECT_THAT(controller.requests()[0].target, HasSubstr("limit=1000"));

  const std::string path = testing::TempDir() + "rackmark_cli_export.jsonl";
  const Ran lines = run_cli(controller.url(), {"export", "--format", "jsonl", "-o", path});
  EXPECT_EQ(lines.status, 0) << lines.err;
  std::ifstream file(path);
  std::string line;
  std::vector<int> ids;
  while (std::getline(file, line)) ids.push_back(Json::parse(line)["id"].get<int>());
  EXPECT_THAT(ids, testing::ElementsAre(2, 1));
  std::remove(path.c_str());
}

TEST(CliCommands, ExportThatCannotBeWrittenFails) {
  FakeController controller(result_page);
  EXPECT_EQ(run_cli(controller.url(), {"export", "-o", "/nowhere/file.csv"}).status, 2);
  EXPECT_EQ(run_cli(controller.url(), {"export", "--format", "xml"}).status, 2);
  const Ran full = run_cli(controller.url(), {"export", "-o", "/dev/full"});
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(full.err, HasSubstr("/dev/full: writing failed"));
}

TEST(CliCommands, VersionAndModels) {
  FakeController controller([](const FakeRequest& request) {
    if (request.target == "/api/v1/models") {
      std::vector<ModelFacts> models(model_facts().begin(), model_facts().end());
      models.back().available = false;
      return FakeReply{200, json::encode(protocol::ModelList{std::move(models)})};
    }
    return FakeReply{200, json::encode(protocol::VersionView{.version = "0.1.0", .schema = 1})};
  });
  EXPECT_THAT(run_cli(controller.url(), {"version"}).out,
              HasSubstr("controller 0.1.0 at " + controller.url()));
  const Ran models = run_cli(controller.url(), {"models"});
  EXPECT_THAT(models.out, HasSubstr("25,557,032"));
  EXPECT_THAT(models.out, HasSubstr("not in this version"));
  EXPECT_EQ(run_cli("", {"--version"}).out, "rackmark " RACKMARK_VERSION "\n");
  EXPECT_EQ(run_cli("", {"--help"}).status, 0);
  EXPECT_EQ(run_cli("", {"submit", "--help"}).status, 0);
  const Ran alone = run_cli("http://127.0.0.1:" + std::to_string(unused_port()), {"version"});
  EXPECT_EQ(alone.status, 7);
  EXPECT_THAT(alone.out, HasSubstr(RACKMARK_VERSION));
}

TEST(CliCommands, ABackupIsToldByItsFile) {
  FakeController controller([](const FakeRequest& request) {
    EXPECT_EQ(request.method + " " + request.target, "POST /api/v1/backups");
    return FakeReply{201, json::encode(protocol::BackupView{.file = "/s/x.db", .bytes = 2048})};
  });
  const Ran ran = run_cli(controller.url(), {"backup"});
  EXPECT_EQ(ran.out, "/s/x.db\n");
  EXPECT_THAT(ran.err, HasSubstr("2.0 KiB"));
}

TEST(CliCommands, ATokenIsSentAsBearer) {
  FakeController controller(result_page);
  run_cli(controller.url(), {"results", "--token", "secret"});
  EXPECT_EQ(controller.requests()[0].headers.at("authorization"), "Bearer secret");
}

}  // namespace
}  // namespace rackmark::cli
