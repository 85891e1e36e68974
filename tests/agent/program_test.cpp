// rackmark-agent as a program, against a controller on a real socket.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <thread>

#include "agent/process/containment.hpp"
#include "agent/process/files.hpp"
#include "agent/process/spawn.hpp"
#include "agent/spool.hpp"
#include "tests/agent/support/fake_controller.hpp"
#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

const std::string kBin = RACKMARK_BIN_DIR;

class ProgramTest : public testing::Test {
 protected:
  ProgramTest() : controller_([this](const FakeRequest& request) { return answer(request); }) {
    std::ofstream(folder_.path() / "token") << "one-time\n";
  }
  ~ProgramTest() override {
    if (pid_ != 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    within(8s, [&] { return runs_are_gone(); });
  }

  FakeReply answer(const FakeRequest& request) {
    // A controller holds the poll; at once, it would be asked again without a pause.
    if (request.body.is_object() && request.body.value("wait", false))
      std::this_thread::sleep_for(20ms);
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    if (refuse_status_ != 0) return refusal(refuse_status_, "the token is not known");
    if (request.target.ends_with("/sync") && sync_refusal_) return *sync_refusal_;
    if (request.target == "/api/v1/agents")
      return {201,
              {{"protocol", 1},
               {"agent_id", 3},
               {"agent_token", "mine"},
               {"controller_uuid", "u"},
               {"lease_s", lease_s_}}};
    if (request.target == "/api/v1/agents/3/events") return take_events(request.body);
    if (request.target == "/api/v1/agents/3/sync") return take_sync(request.body);
    return {404, {{"title", "Not Found"}, {"status", 404}}};
  }
  static FakeReply refusal(int status, const std::string& detail) {
    return {status, {{"title", "no"}, {"status", status}, {"detail", detail}}};
  }
  FakeReply take_events(const Json& body) {
    for (const auto& batch : body["batches"]) {
      if (batch["run_id"] == refused_run_) return refusal(413, "larger than is taken");
    }
    Json accepted = Json::array();
    for (const auto& batch : body["batches"]) {
      for (const auto& event : batch["events"]) events_.push_back(event);
      accepted.push_back({{"run_id", batch["run_id"]}, {"up_to_seq", batch["seq"]}});
    }
    return {200, {{"accepted", accepted}, {"refused_runs", Json::array()}}};
  }
  FakeReply take_sync(const Json& body) {
    last_sync_ = body;
    if (body["inventory"].is_object())
      engines_.push_back(body["inventory"]["versions"]["engine_revision"]);
    for (const auto& run : body["runs"]) last_run_ = run;
    return {200,
            {{"protocol", 1},
             {"lease_s", lease_s_},
             {"wanted", wanted_},
             {"cancel", cancel_},
             {"forget", forget_},
             {"new_member", 1}}};
  }

  void start(UniqueFd standard_error = {}) {
    std::vector<std::string> argv{kBin + "/rackmark-agent",
                                  "--controller",
                                  controller_.url(),
                                  "--state",
                                  state().string(),
                                  "--name",
                                  "alpha",
                                  "--label",
                                  "fleet=test",
                                  "--worker",
                                  worker_,
                                  "--enrol-token-file",
                                  (folder_.path() / "token").string()};
    argv.insert(argv.end(), options_.begin(), options_.end());
    if (!standard_error)
      standard_error.reset(::open((folder_.path() / "log").c_str(),
                                  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    pid_ = spawn({.argv = argv,
                  .environment = {"PATH=/usr/bin:/bin", "HOME=/root"},
                  .stderr_fd = standard_error.get()});
  }
  int stop(int signal = SIGTERM) {
    ::kill(pid_, signal);
    return wait_for_end();
  }
  int wait_for_end() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return status;
  }
  std::filesystem::path state() const { return folder_.path() / "state"; }
  std::string log() const { return read_file(folder_.path() / "log").value_or(""); }
  int times_in_log(const std::string& text) const {
    int times = 0;
    const std::string all = log();
    for (auto at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) ++times;
    return times;
  }
  Json wanted(const std::string& behaviour) const {
    return {{{"run_id", 5},
             {"job_id", 1},
             {"timeout_s", 60.0},
             {"repetition", 1},
             {"attempt", 1},
             {"run_token", "t"},
             {"hosts", Json::array({"alpha"})},
             {"spec",
              {{"model", "resnet50"},
               {"name", behaviour},
               {"resources", {{"workers_per_agent", 1}, {"threads_per_worker", 1}}}}}}};
  }
  template <class F>
  bool within(std::chrono::milliseconds limit, F&& holds) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (true) {
      {
        const std::lock_guard lock(mutex_);
        if (holds()) return true;
      }
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(10ms);
    }
  }
  bool run_is(const std::string& state) {
    return within(20s, [&] { return last_run_.is_object() && last_run_["state"] == state; });
  }
  void set_wanted(Json runs) {
    const std::lock_guard lock(mutex_);
    wanted_ = std::move(runs);
  }
  static std::size_t workers_under(const std::filesystem::path& folder) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const auto line = read_file(entry.path() / "cmdline");
      const auto pid = std::atol(entry.path().filename().c_str());
      if (pid > 0 && line && line->find("rackmark-test-worker") != std::string::npos &&
          line->find("run") != std::string::npos &&
          line->find(folder.string()) != std::string::npos &&
          line->find("--controller") == std::string::npos && start_ticks(static_cast<pid_t>(pid)))
        ++count;
    }
    return count;
  }
  bool runs_are_gone() const { return workers_under(folder_.path()) == 0; }

  TempFolder folder_;
  std::string worker_ = kBin + "/rackmark-test-worker";
  std::vector<std::string> options_;  // more of them
  std::mutex mutex_;
  std::vector<std::string> engines_;  // of the inventories that came
  std::vector<FakeRequest> requests_;
  std::vector<Json> events_;
  Json last_sync_, last_run_, wanted_ = Json::array(), cancel_ = Json::array(),
                              forget_ = Json::array();
  double lease_s_ = 20;
  int refuse_status_ = 0, refused_run_ = 0;
  std::optional<FakeReply> sync_refusal_;
  pid_t pid_ = 0;
  FakeController controller_;
};

TEST_F(ProgramTest, EnrolsRunsReportsAndForgets) {
  set_wanted(wanted("success"));
  start();
  ASSERT_TRUE(run_is("succeeded")) << log();
  EXPECT_TRUE(within(5s, [&] {
    return std::any_of(events_.begin(), events_.end(),
                       [](const Json& e) { return e["type"] == "summary"; });
  }));
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(requests_.front().target, "/api/v1/agents");
    EXPECT_EQ(requests_.front().body["token"], "one-time");
    EXPECT_EQ(requests_.front().body["labels"]["fleet"], "test");
    EXPECT_GE(requests_.front().body["inventory"]["cpu"]["physical_cores"], 1);
    EXPECT_EQ(requests_.back().authorization, "Bearer mine");
    EXPECT_EQ(last_run_["all_gone"], true);
    EXPECT_FALSE(last_sync_["boot_id"].get<std::string>().empty());
    wanted_ = Json::array();
    forget_ = {5};
  }
  EXPECT_TRUE(within(10s, [&] { return last_sync_["runs"].empty(); }));
  struct stat info {};
  ASSERT_EQ(::stat((state() / "identity.json").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  EXPECT_EQ(stop(), 0) << log();
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(last_sync_["leaving"], true);
}

TEST_F(ProgramTest, SigtermEndsTheRunWithinTenSecondsAndSaysSo) {
  set_wanted(wanted("ignore_term"));
  start();
  ASSERT_TRUE(run_is("measuring")) << log();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(stop(), 0) << log();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
  EXPECT_TRUE(runs_are_gone());
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(last_run_["state"], "failed");
  EXPECT_EQ(last_run_["reason"], "agent_restarted");
  EXPECT_EQ(last_run_["all_gone"], true);
  EXPECT_EQ(last_sync_["leaving"], true);
}

TEST_F(ProgramTest, KilledAndStartedAgainItReportsTheRunAndNeedsNoToken) {
  set_wanted(wanted("hang"));
  start();
  ASSERT_TRUE(run_is("measuring")) << log();
  const std::string before = last_sync_["incarnation"];
  stop(SIGKILL);
  EXPECT_TRUE(within(5s, [&] { return runs_are_gone(); })) << "the guard ends it";
  std::filesystem::remove(folder_.path() / "token");
  start(make_pipe().write);  // nobody reads what it logs
  ASSERT_TRUE(run_is("failed"));
  EXPECT_EQ(stop(), 0) << "a lost reader is no reason to die";
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(last_run_["reason"], "agent_restarted");
  EXPECT_GT(last_sync_["incarnation"].get<std::string>(), before);
}

TEST_F(ProgramTest, ARefusalIsSaidOnceWithItsReasonAndHoldsUpNoOther) {
  std::filesystem::create_directories(state() / "spool");
  std::filesystem::permissions(state(), std::filesystem::perms::owner_all);
  {
    Spool spool(state() / "spool");
    for (const int run : {5, 6}) {
      protocol::EventBatch batch;
      batch.run_id = run;
      batch.events = {{{"type", "steps"}, {"of", run}}};
      spool.append(std::move(batch));
    }
  }
  refused_run_ = 5;
  sync_refusal_ = {404, "no such page"};  // a proxy's word, not the controller's
  start();
  EXPECT_TRUE(within(20s, [&] { return !events_.empty(); })) << log();
  EXPECT_EQ(events_.front()["of"], 6);
  const auto says = [&](const std::string& text) {
    return within(20s, [&] { return times_in_log(text) > 0; });
  };
  EXPECT_TRUE(says("events of run 5 are not handed in: larger than is taken")) << log();
  EXPECT_TRUE(says("status 404 Not Found from something that is not a Rackmark controller"));
  const auto refuse_sync = [&](std::optional<FakeReply> reply) {
    const std::lock_guard lock(mutex_);
    sync_refusal_ = std::move(reply);
  };
  refuse_sync(refusal(409, "agent_conflict: the disk is a copy"));
  EXPECT_TRUE(says("does not take this agent's sync: agent_conflict: the disk is a copy")) << log();
  refuse_sync(std::nullopt);
  EXPECT_TRUE(says("the controller answers again")) << log();
  EXPECT_EQ(stop(), 0) << log();
  EXPECT_EQ(times_in_log("larger than is taken"), 1) << log();
  EXPECT_EQ(times_in_log("status 404"), 1) << log();
  EXPECT_EQ(times_in_log("agent_conflict"), 1) << log();
}

TEST_F(ProgramTest, LooksAgainAtItsHostAndTellsWhatChanged) {
  const auto looks = folder_.path() / "looks", engine = folder_.path() / "engine";
  worker_ = (folder_.path() / "worker").string();
  std::ofstream(engine) << "one\n";
  std::ofstream(worker_) << "#!/bin/sh\necho look >> " << looks.string()
                         << "\necho rackmark-worker 1, engine $(cat " << engine.string() << ")\n";
  std::filesystem::permissions(worker_, std::filesystem::perms::owner_all);
  const auto looked = [&looks](std::size_t times) {
    return read_file(looks).value_or("").size() >= times * 5;
  };
  options_ = {"--probe-every-s", "1"};
  start();
  ASSERT_TRUE(within(30s, [&] { return looked(3); })) << log();
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(std::set<std::string>(engines_.begin(), engines_.end()),
              std::set<std::string>{"one"});
  }
  std::ofstream(engine) << "two\n";
  ASSERT_TRUE(within(30s, [&] { return engines_.back() == "two"; })) << log();
  std::size_t told = 0;
  ASSERT_TRUE(
      within(30s, [&] { return (told = engines_.size(), last_sync_["inventory"].is_null()); }));
  const std::size_t so_far = read_file(looks).value_or("").size() / 5;
  ASSERT_TRUE(within(30s, [&] { return looked(so_far + 2); }));
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(engines_.size(), told) << "nothing had changed";
  }
  EXPECT_EQ(stop(), 0) << log();
}

TEST_F(ProgramTest, WithoutAnAnswerItFencesItselfAndKeepsTheEvents) {
  {
    const std::lock_guard lock(mutex_);
    lease_s_ = 2;
  }
  set_wanted(wanted("hang"));
  start();
  ASSERT_TRUE(run_is("measuring")) << log();
  controller_.set_deaf(true);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(within(6s, [&] { return runs_are_gone(); }));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 4s);
  controller_.set_deaf(false);
  EXPECT_TRUE(run_is("lost")) << log();
}

TEST_F(ProgramTest, AnUnknownAgentEndsWithOneClearLine) {
  start();
  ASSERT_TRUE(within(20s, [&] { return last_sync_.is_object(); })) << log();
  {
    const std::lock_guard lock(mutex_);
    refuse_status_ = 401;
  }
  EXPECT_TRUE(WIFEXITED(wait_for_end()));
  EXPECT_THAT(log(), HasSubstr("does not know this agent any more"));
}

TEST_F(ProgramTest, ARefusedTokenEndsWithOneClearLine) {
  refuse_status_ = 401;
  start();
  const int status = wait_for_end();
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(log(), HasSubstr("refused to enrol"));
}

TEST_F(ProgramTest, TwoAgentsCannotShareAStateFolder) {
  start();
  ASSERT_TRUE(within(20s, [&] { return last_sync_.is_object(); })) << log();
  const auto second =
      capture({"sh", "-c", "exec \"$0\" \"$@\" 2>&1", kBin + "/rackmark-agent", "--state",
               state().string(), "--worker", kBin + "/rackmark-test-worker"},
              {"PATH=/usr/bin:/bin"}, 10000);
  EXPECT_EQ(second.status.code, 1);
  EXPECT_THAT(second.out,
              HasSubstr("in use by another rackmark-agent (pid " + std::to_string(pid_)));
  EXPECT_EQ(stop(), 0);
}

TEST(Misuse, EachIsOneLineAndAStatus) {
  TempFolder folder;
  const std::string worker = kBin + "/rackmark-test-worker", state = (folder.path() / "s").string();
  const std::string open = (folder.path() / "open").string(), foreign = folder.path() / "foreign";
  ASSERT_EQ(::mkdir(open.c_str(), 0700), 0);
  ASSERT_EQ(::chmod(open.c_str(), 01777), 0);
  ASSERT_EQ(::mkdir(foreign.c_str(), 0700), 0);
  const bool root = ::chown(foreign.c_str(), 12345, 12345) == 0;
  const std::string config = (folder.path() / "agent.toml").string();
  std::ofstream(config) << "controller = \"http://127.0.0.1:1\"\nlables = [\"a=b\"]\n";
  const struct {
    std::vector<std::string> args;
    int status;
    const char* says;
  } rows[] = {
      {{"--no-such-option"}, 2, "--no-such-option"},
      {{"--config", config}, 2, "--config: there is no option lables"},
      {{"--controller", "ftp://x", "--worker", worker}, 2, "ftp://x"},
      {{"--label", "novalue", "--worker", worker}, 2, "--label novalue is not key=value"},
      {{"--data-root", "/no/such", "--worker", worker}, 2, "--data-root /no/such"},
      {{"--worker", "/no/such"}, 2, "no worker at /no/such"},
      {{"--log-level", "loud", "--worker", worker}, 2, "--log-level loud"},
      {{"--containment", "jail", "--worker", worker}, 2, "--containment jail"},
      {{"--name", "", "--worker", worker}, 2, "--name"},
      {{"--probe-every-s", "0", "--worker", worker},
       2,
       "--probe-every-s is 0, allowed: 1 to 86400"},
      {{"--state", state, "--worker", worker}, 2, "not enrolled yet"},
      {{"--state", state, "--worker", worker, "--enrol-token-file", "/no/token"},
       2,
       "/no/token cannot be read"},
      {{"--state", "/proc/x/y", "--worker", worker}, 1, "/proc/x/y"},
      {{"--state", open, "--worker", worker}, 1, "may be written by others (mode 1777)"},
      {{"--state", root ? foreign : "/", "--worker", worker}, 1, "belongs to user"},
  };
  for (const auto& row : rows) {
    std::vector<std::string> argv{"sh", "-c", "exec \"$0\" \"$@\" 2>&1", kBin + "/rackmark-agent"};
    argv.insert(argv.end(), row.args.begin(), row.args.end());
    const auto result =
        capture(argv, {"PATH=/usr/bin:/bin", "HOME=" + folder.path().string()}, 20000);
    EXPECT_EQ(result.status.code, row.status) << result.out;
    EXPECT_THAT(result.out, HasSubstr(row.says));
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << result.out;
  }
}

}  // namespace
}  // namespace rackmark::agent
