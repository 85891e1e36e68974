#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <fstream>

#include "cli_run.hpp"
#include "common/domain/spec.hpp"
#include "fake_controller.hpp"

namespace rackmark::cli {
namespace {

using testing::HasSubstr;

FakeReply job_reply(protocol::JobView job, int status = 201) { return {status, json::encode(job)}; }

protocol::JobView finished(JobState state, std::optional<RunState> outcome) {
  protocol::JobView job;
  job.id = 42;
  job.state = state;
  job.outcome = outcome;
  return job;
}

// Takes every submission as job 42.
FakeReply accept(const FakeRequest&) {
  return job_reply(finished(JobState::kQueued, std::nullopt));
}

Json submitted(const std::vector<std::string>& arguments, const std::string& input = "") {
  FakeController controller(accept);
  std::vector<std::string> all = {"submit"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Ran ran = run_cli(controller.url(), all, input);
  EXPECT_EQ(ran.status, 0) << ran.err;
  const auto requests = controller.requests();
  EXPECT_EQ(requests.size(), 1u);
  return requests.empty() ? Json() : Json::parse(requests.back().body);
}

TEST(CliSubmit, OptionsBecomeTheSpec) {
  EXPECT_EQ(submitted({"--model", "resnet50", "--batch_size", "16", "--steps.measured", "20",
                       "--optimizer.learning_rate=0.1", "--all_reduce.overlap", "false", "--labels",
                       "a=b", "--labels", "c=d=e", "--name", "42", "--timeout_s", "60.5"}),
            Json::parse(R"({"model": "resnet50", "batch_size": 16, "steps": {"measured": 20},
                            "optimizer": {"learning_rate": 0.1}, "all_reduce": {"overlap": false},
                            "labels": {"a": "b", "c": "d=e"}, "name": "42", "timeout_s": 60.5})"));
  EXPECT_EQ(submitted({"--batch_size", "max", "--repetitions", R"({"min": 2, "max": 5})"}),
            Json::parse(R"({"batch_size": "max", "repetitions": {"min": 2, "max": 5}})"));
}

// The controller names the wrong field, so the text must reach it.
TEST(CliSubmit, ATextThatIsNoNumberIsSentAsItIs) {
  EXPECT_EQ(submitted({"--batch_size", "many"})["batch_size"], "many");
}

TEST(CliSubmit, EveryFieldOfTheSpecIsAnOption) {
  for (const auto& field : spec_fields()) {
    const std::string text = field.type == "map" ? "k=v" : "1";
    const Json spec = submitted({"--" + field.path, text});
    std::string pointer = "/" + field.path;
    for (auto& c : pointer) c = c == '.' ? '/' : c;
    EXPECT_TRUE(spec.contains(Json::json_pointer(pointer))) << field.path << " " << spec;
  }
}

TEST(CliSubmit, AFileIsTheSpecAndOptionsComeOnTop) {
  const std::string path = testing::TempDir() + "rackmark_cli_spec.json";
  std::ofstream(path) << R"({"model": "resnet50", "batch_size": 8, "steps": {"warmup": 1}})";
  EXPECT_EQ(
      submitted({"-f", path, "--batch_size", "4", "--steps.measured", "3"}),
      Json::parse(
          R"({"model": "resnet50", "batch_size": 4, "steps": {"warmup": 1, "measured": 3}})"));
  std::remove(path.c_str());
  EXPECT_EQ(submitted({"--file", "-"}, R"({"model": "resnet50"})"), (Json{{"model", "resnet50"}}));
}

TEST(CliSubmit, EverySubmissionCarriesAnIdempotencyKey) {
  FakeController controller(accept);
  run_cli(controller.url(), {"submit", "--model", "resnet50"});
  run_cli(controller.url(), {"submit", "--model", "resnet50"});
  run_cli(controller.url(), {"submit", "--model", "resnet50", "--idempotency-key", "night-1"});
  const auto requests = controller.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].headers.at("idempotency-key").size(), 32u);
  EXPECT_NE(requests[0].headers.at("idempotency-key"), requests[1].headers.at("idempotency-key"));
  EXPECT_EQ(requests[2].headers.at("idempotency-key"), "night-1");
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].target, "/api/v1/jobs");
  EXPECT_EQ(requests[0].headers.at("content-type"), "application/json");
}

TEST(CliSubmit, TheFoundingLine) {
  FakeController controller([](const FakeRequest& request) {
    if (request.method == "GET") return FakeReply{200, json::encode(protocol::AgentList{})};
    return accept(request);
  });
  const Ran ran =
      run_cli(controller.url(),
              {"submit", "--tf", "--num_gpus=1 --model=resnet50 --variable_update=parameter_server",
               "--batch_size", "4"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json spec = Json::parse(controller.requests().back().body);
  EXPECT_EQ(spec["variable_update"], "parameter_server");
  EXPECT_EQ(spec["resources"], (Json{{"device", "cpu"}, {"workers_per_agent", 1}}));
  EXPECT_EQ(spec["batch_size"], 4);
  EXPECT_TRUE(parse_spec(spec));
}

TEST(CliSubmit, AWrongTfFlagIsNamedWithoutAController) {
  const Ran ran = run_cli("http://127.0.0.1:" + std::to_string(unused_port()),
                          {"submit", "--tf", "--model=resnet50 --xla=true"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("--xla: flag --xla=true is unknown (allowed: model, num_gpus"));
}

TEST(CliSubmit, ARefusedSpecIsStatus2WithOneLineAField) {
  FakeController controller([](const FakeRequest& request) {
    const auto parsed = parse_spec(Json::parse(request.body));
    return FakeReply{422, json::encode(net::to_problem(parsed.error(), "/api/v1/jobs"))};
  });
  const Ran ran = run_cli(controller.url(), {"submit", "--model", "vgg", "--batch_size", "0"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("batch_size: field 'batch_size' (0) is not allowed (allowed: a "
                                 "whole number, 1 to 65536 images, or \"max\")\n"));
  EXPECT_THAT(ran.err, HasSubstr("model: field 'model' (\"vgg\") is not allowed"));
}

TEST(CliSubmit, DryRunAsksOnlyToValidate) {
  FakeController controller([](const FakeRequest&) {
    protocol::DryRun dry;
    dry.spec_resolved = {{"model", "resnet50"}};
    dry.matching_agents = {"a", "b"};
    dry.estimate_s = 90;
    return FakeReply{200, json::encode(dry)};
  });
  const Ran ran = run_cli(controller.url(), {"submit", "--model", "resnet50", "--dry-run"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(controller.requests()[0].target, "/api/v1/jobs?validate=true");
  EXPECT_THAT(ran.out, HasSubstr("agents that match: a, b\n"));
  EXPECT_THAT(ran.out, HasSubstr("one run takes about: 1 m 30 s\n"));
}

TEST(CliSubmit, BadUsageIsStatus2) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"sumbit"},
                                             {"submit", "--bogus", "1"},
                                             {"submit", "--batch_size"},
                                             {"submit", "-f", "/nowhere/spec.json"},
                                             {"submit", "-f", "a.json", "--tf", "--model=resnet50"},
                                             {"submit", "--watch", "--dry-run"},
                                             {"submit", "--labels", "novalue"},
                                             {"submit", "extra"}}) {
    const Ran ran = run_cli("http://127.0.0.1:1", arguments);
    EXPECT_EQ(ran.status, 2) << testing::PrintToString(arguments);
    EXPECT_NE(ran.err, "") << testing::PrintToString(arguments);
  }
  EXPECT_EQ(run_cli("http://127.0.0.1:1", {"submit", "-f", "-"}, "{\"model\":").status, 2);
  EXPECT_EQ(run_cli("http://127.0.0.1:1", {"submit", "-f", "-"}, "[1]").status, 2);
  EXPECT_EQ(run_cli("no address", {"submit", "--model", "resnet50"}).status, 2);
  EXPECT_EQ(run_cli("http://127.0.0.1:1", {"submit", "-f", "-"}, std::string(2 << 20, ' ')).status,
            2);
}

TEST(CliSubmit, AnUnreachableControllerIsStatus7AndNamed) {
  const std::string url = "http://127.0.0.1:" + std::to_string(unused_port());
  const Ran ran = run_cli(url, {"submit", "--model", "resnet50"});
  EXPECT_EQ(ran.status, 7);
  EXPECT_THAT(ran.err, HasSubstr(url.substr(7)));
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1);
}

TEST(CliSubmit, WatchingEndsWithTheJobsStatus) {
  struct Case {
    JobState state;
    std::optional<RunState> outcome;
    int status;
  };
  for (const Case& c :
       {Case{JobState::kSucceeded, RunState::kSucceeded, 0},
        Case{JobState::kFailed, RunState::kFailed, 1},
        Case{JobState::kFailed, RunState::kOutOfMemory, 3},
        Case{JobState::kCancelled, std::nullopt, 4}, Case{JobState::kFailed, RunState::kTimeout, 5},
        Case{JobState::kFailed, RunState::kStalled, 5},
        Case{JobState::kFailed, RunState::kLost, 6}}) {
    FakeController controller([&](const FakeRequest& request) {
      if (request.method == "POST") return accept(request);
      return job_reply(finished(c.state, c.outcome), 200);
    });
    const Ran ran = run_cli(controller.url(), {"submit", "--model", "resnet50", "--watch"});
    EXPECT_EQ(ran.status, c.status);
    EXPECT_THAT(ran.out, HasSubstr("job 42 "));
  }
}

protocol::JobView measuring(int step) {
  protocol::JobView job = finished(JobState::kRunning, std::nullopt);
  job.runs.resize(1);
  job.runs[0].state = RunState::kMeasuring;
  job.runs[0].progress = {.steps_done = step, .steps_planned = 3, .images_per_second = 7.61};
  return job;
}
protocol::JobView succeeded() {
  protocol::JobView job = finished(JobState::kSucceeded, RunState::kSucceeded);
  job.headline = {7.614, {0.004, "steps"}, 1};
  job.validity = {
      measure::Verdict::kSuspect, {"run 8: few steps: 3"}, {"steal time", "frequency governor"}};
  job.runs.resize(1);
  job.runs[0].state = RunState::kSucceeded;
  auto& result = job.runs[0].result.emplace();
  result.model = "resnet50";
  result.mode = "training";
  result.precision = "fp32";
  result.batch_size = 16;
  result.ranks = 1;
  result.threads_per_worker = 2;
  result.agent = "host-1";
  result.device_class = "cpu-a";
  result.input_kind = "synthetic";
  result.steps = 20;
  result.step.median_ms = 2101.4;
  result.step.p95_ms = 2110;
  result.step.max_ms = 2150;
  return job;
}

TEST(CliSubmit, ProgressIsLinesInALogAndABarOnATerminal) {
  for (const bool bar : {false, true}) {
    std::atomic<int> asked = 0;
    FakeController controller([&](const FakeRequest& request) {
      if (request.method == "POST") return accept(request);
      const int step = ++asked;
      return job_reply(step <= 3 ? measuring(step) : succeeded(), 200);
    });
    const Ran ran =
        run_cli(controller.url(), {"submit", "--model", "resnet50", "--watch"}, "", bar);
    EXPECT_EQ(ran.status, 0);
    EXPECT_THAT(ran.err, HasSubstr("1/3  7.61 img/s"));
    if (bar) {
      EXPECT_THAT(ran.err, HasSubstr("\r"));
      EXPECT_THAT(ran.err, HasSubstr("3/3"));
      EXPECT_THAT(ran.err, testing::EndsWith("\r\x1b[K"));  // the bar does not stay
    } else {
      EXPECT_EQ(ran.err.find('\r'), std::string::npos);
      EXPECT_EQ(ran.err.find("2/3"), std::string::npos);  // the same phase within ten seconds
    }
    EXPECT_EQ(
        ran.out,
        "job 42 succeeded: 7.61 img/s ±0.4 % (n=1, within the run)\n"
        "  resnet50 training fp32, batch 16, 1 worker x 2 threads on host-1 (cpu-a), "
        "synthetic input\n"
        "  step time: median 2,101 ms, p95 2,110 ms, longest 2,150 ms, 20 steps\n"
        "  validity: suspect; run 8: few steps: 3 (not checked: steal time, frequency governor)"
        "\n")
        << "the job's, not the last run's";
  }
}

TEST(CliSubmit, WatchedJsonIsTheFinishedJobAlone) {
  FakeController controller([&](const FakeRequest& request) {
    return request.method == "POST" ? accept(request) : job_reply(succeeded(), 200);
  });
  const Ran ran = run_cli(controller.url(), {"--json", "submit", "--model", "resnet50", "--watch"});
  const Json job = Json::parse(ran.out);
  EXPECT_EQ(job["headline"]["images_per_second"], 7.614);
}

TEST(CliSubmit, AControllerThatGoesAwayIsWaitedForAndThenGivenUp) {
  std::atomic<int> asked = 0;
  FakeController controller([&](const FakeRequest&) {
    if (++asked < 3) {
      return FakeReply{503,
                       json::encode(protocol::Problem{.status = 503, .detail = "shutting down"})};
    }
    return job_reply(succeeded(), 200);
  });
  const Ran back = run_cli(controller.url(), {"watch", "42"});
  EXPECT_EQ(back.status, 0);
  EXPECT_THAT(back.err, HasSubstr("shutting down; trying again\nthe controller is back\n"));

  const Ran gone = run_cli("http://127.0.0.1:" + std::to_string(unused_port()), {"watch", "42"});
  EXPECT_EQ(gone.status, 7);
}

}  // namespace
}  // namespace rackmark::cli
