#include "tests/controller/api/controller_fixture.hpp"

#include <stdlib.h>

namespace rackmark::test {
namespace fs = std::filesystem;
using namespace std::chrono_literals;

TestController::TestController() {
  std::string pattern = (fs::temp_directory_path() / "rackmark-api-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
  dir_ = pattern;
  fs::create_directories(dir_ / "web");
  start();
}

TestController::~TestController() {
  stop();
  std::error_code ignored;
  fs::remove_all(dir_, ignored);
}

void TestController::start() {
  ControllerConfig config;
  config.port = static_cast<std::uint16_t>(port_);
  config.state_dir = dir_ / "state";
  config.web_dir = dir_ / "web";
  app_ = std::make_unique<ControllerApp>(std::move(config));
  app_->start();
  port_ = app_->port();
  thread_ = std::thread([this] { app_->run(); });
}

void TestController::stop() {
  if (!app_) return;
  app_->stop();
  thread_.join();
  app_.reset();
}

net::BaseUrl TestController::base() const {
  return {"127.0.0.1", static_cast<std::uint16_t>(port_)};
}

nlohmann::json small_spec() {
  return {{"model", "resnet50"},
          {"batch_size", 2},
          {"image_size", 64},
          {"steps", {{"warmup", 2}, {"measured", 20}}}};
}

namespace {

protocol::Inventory inventory(const std::string& hostname) {
  protocol::Inventory inventory;
  inventory.hostname = hostname;
  inventory.os = "Debian GNU/Linux 12";
  inventory.cpu.vendor = "GenuineIntel";
  inventory.cpu.model_name = "Example CPU";
  inventory.cpu.isa = "avx512_vnni";
  inventory.cpu.sockets = inventory.cpu.numa_domains = 1;
  inventory.cpu.physical_cores = 4;
  inventory.cpu.logical_cpus = 8;
  inventory.memory_bytes = std::int64_t{64} << 30;
  inventory.versions = {{"engine_revision", "e1"}, {"onednn", "2.6.3"}};
  return inventory;
}

nlohmann::json event(const char* type, nlohmann::json members) {
  members["type"] = type;
  members["v"] = 1;
  members["rank"] = 0;
  members["t_ns"] = 1000;
  return members;
}

nlohmann::json steps(const char* phase, std::size_t count) {
  const nlohmann::json zeros(std::vector<double>(count, 0.0));
  std::vector<double> loss;
  for (std::size_t i = 0; i < count; ++i) loss.push_back(7.0 - 0.1 * static_cast<double>(i));
  return event("steps", {{"phase", phase},
                         {"first_step", 0},
                         {"ms", std::vector<double>(count, 100.0)},
                         {"loss", loss},
                         {"input_wait_ms", zeros},
                         {"exposed_communication_ms", zeros},
                         {"server_wait_ms", zeros}});
}

}  // namespace

ProtocolAgent::ProtocolAgent(const net::BaseUrl& base, const std::string& name) : client_(base) {
  const auto token = client_.call(protocol::kCreateEnrolmentToken);
  EXPECT_TRUE(token) << token.error().message;
  protocol::Enrolment enrolment;
  enrolment.token = token->token;
  enrolment.name = name;
  enrolment.labels = {{"site", "a"}};
  enrolment.inventory = inventory(name);
  const auto enrolled = client_.call(protocol::kEnrol, {}, {}, enrolment);
  EXPECT_TRUE(enrolled) << enrolled.error().message;
  enrolled_ = *enrolled;
  client_.set_header("Authorization", "Bearer " + enrolled_.agent_token);
  const auto first = sync({}, false);
  EXPECT_TRUE(first) << first.error().message;
}

Result<protocol::SyncDown> ProtocolAgent::sync(std::vector<protocol::ObservedRun> runs, bool wait) {
  protocol::SyncUp up;
  up.incarnation = "00000000000000000002";
  up.boot_id = "boot-" + std::to_string(enrolled_.agent_id);
  up.runs = std::move(runs);
  up.wait = wait;
  return client_.call(protocol::kSync, enrolled_.agent_id, {}, up, 40s);
}

protocol::WantedRun ProtocolAgent::wait_for_run() {
  const auto end = std::chrono::steady_clock::now() + 5s;
  while (std::chrono::steady_clock::now() < end) {
    const auto down = sync({}, false);
    if (down && !down->wanted.empty()) return down->wanted.front();
    std::this_thread::sleep_for(20ms);
  }
  ADD_FAILURE() << "no run was wanted within 5 s";
  return {};
}

Result<protocol::EventReceipt> ProtocolAgent::upload(std::int64_t run_id, std::int64_t seq,
                                                     std::vector<nlohmann::json> events,
                                                     std::vector<protocol::LogLine> logs) {
  protocol::EventBatch batch;
  batch.run_id = run_id;
  batch.seq = seq;
  batch.events = std::move(events);
  batch.logs = std::move(logs);
  return client_.call(protocol::kUploadEvents, enrolled_.agent_id, {}, {{batch}});
}

protocol::ObservedRun ProtocolAgent::observed(std::int64_t run_id, RunState state,
                                              std::int64_t last_seq) {
  protocol::ObservedRun run;
  run.run_id = run_id;
  run.state = state;
  run.at = "2026-11-21T02:03:04.567Z";
  run.last_seq = last_seq;
  if (is_terminal(state)) run.exit_code = 0, run.all_gone = true;
  return run;
}

void ProtocolAgent::carry_out(const protocol::WantedRun& run) {
  const auto id = run.run_id;
  ASSERT_TRUE(sync({observed(id, RunState::kStarting, 0)}, false));
  ASSERT_TRUE(
      upload(id, 1,
             {event("hello", {{"ranks", 1},
                              {"host", "a"},
                              {"model", "resnet50"},
                              {"backend", "onednn"},
                              {"precision", "fp32"},
                              {"variable_update", "all_reduce"},
                              {"engine_revision", "e1"},
                              {"libraries", {{"onednn", "2.6.3"}}},
                              {"threads", 4}}),
              event("phase", {{"phase", "warmup"}, {"steps_planned", 2}}), steps("warmup", 2)},
             {{0, "stderr", "2026-11-21T02:03:04.567Z", "a line"}}));
  ASSERT_TRUE(sync({observed(id, RunState::kMeasuring, 1)}, false));
  ASSERT_TRUE(upload(
      id, 2,
      {event("phase", {{"phase", "measuring"}, {"steps_planned", 20}}), steps("measuring", 20),
       event("summary", {{"images", 40},
                         {"steps", 20},
                         {"start_ns", 1'000'000'000},
                         {"end_ns", 3'000'000'000},
                         {"first_loss", 7.0},
                         {"final_loss", 5.1}})}));
  const auto down = sync({observed(id, RunState::kSucceeded, 2)}, false);
  ASSERT_TRUE(down) << down.error().message;
}

protocol::JobView ControllerTest::submit(const nlohmann::json& spec) {
  const auto job = client_.call(protocol::kSubmitJob, {}, {}, spec);
  EXPECT_TRUE(job) << job.error().message;
  return job ? *job : protocol::JobView{};
}

protocol::JobView ControllerTest::show(std::int64_t job_id) {
  const auto job = client_.call(protocol::kShowJob, job_id);
  EXPECT_TRUE(job) << job.error().message;
  return job ? *job : protocol::JobView{};
}

}  // namespace rackmark::test
