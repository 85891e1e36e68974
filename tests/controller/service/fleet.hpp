// Verbs for tests of the service: a controller over a real file database, and agents that behave.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.hpp"
#include "common/json/described.hpp"
#include "controller/service/reader.hpp"
#include "controller/service/writer.hpp"
#include "controller/store/database.hpp"
#include "tests/controller/store/temp_folder.hpp"

namespace rackmark::service {

inline protocol::Inventory small_host(const std::string& hostname) {
  protocol::Inventory inventory;
  inventory.hostname = hostname;
  inventory.cpu = {"GenuineIntel", "Xeon", "avx512", 6, 143, 8, 1, 2, 2, 1, false};
  inventory.memory_bytes = 24'000'000'000;
  return inventory;
}

// What an agent process remembers between syncs.
struct AgentState {
  std::int64_t id = 0;
  std::string name, token, boot = "boot-1", incarnation = "0001";
  std::int64_t number = 0;
  std::map<std::int64_t, protocol::ObservedRun> runs;
};

// A run as rank 0 of it would tell it: `steps` steps of `ms` each, `batch` images a step.
struct Story {
  std::int64_t ranks = 1, steps = 4, batch = 16;
  double ms = 100;
};

// Every write to a file fails, as on a full disk: commits do, what is read goes on.
class FullDisk {
 public:
  FullDisk() : before_signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, before_signal_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
  void (*before_signal_)(int);
};

class Fleet : public ::testing::Test {
 protected:
  Fleet() { open(); }

  void open() {
    close();
    Notices notices;
    notices.event = [this](EventLogEntry entry) { events.push_back(std::move(entry)); };
    notices.live = [this](LiveEvent event) { live.push_back(std::move(event)); };
    notices.wake_agent = [this](std::int64_t id) { woken.push_back(id); };
    writer = std::make_unique<Writer>(file(), clock, settings, notices);
    reader = std::make_unique<Reader>(file(), clock, settings);
  }
  void close() {
    reader.reset();
    writer.reset();
  }
  // Starts on a database as another version might have left it.
  void restart_on(const std::string& sql) {
    close();
    store::Database(file(), store::Database::Access::kWrite).execute(sql);
    open();
  }
  std::filesystem::path file() const { return folder.path() / "rackmark.sqlite"; }

  static nlohmann::json spec() {
    return {{"model", "resnet50"}, {"batch_size", 16}, {"steps", {{"warmup", 1}, {"measured", 4}}}};
  }
  static Submission submission(const nlohmann::json& spec) { return {spec.dump(), spec, {}}; }

  protocol::JobView submit(const nlohmann::json& spec) {
    auto job = writer->submit(submission(spec));
    if (!job) throw std::runtime_error(job.error().message);
    return *job;
  }
  protocol::JobView job(std::int64_t id) { return reader->job(id).value(); }
  protocol::RunView run(std::int64_t id) { return reader->run(id).value(); }

  std::string enrolment_token() { return writer->create_enrolment_token(3600)->token; }

  protocol::Enrolment enrolment(const std::string& name) {
    protocol::Enrolment e;
    e.token = enrolment_token();
    e.name = name;
    e.inventory = small_host(name);
    return e;
  }

  AgentState enrol(const std::string& name, std::map<std::string, std::string> labels = {}) {
    protocol::Enrolment e = enrolment(name);
    e.labels = std::move(labels);
    const auto enrolled = writer->enrol(e);
    if (!enrolled) throw std::runtime_error(enrolled.error().message);
    AgentState agent;
    agent.id = enrolled->agent_id;
    agent.name = name;
    agent.token = enrolled->agent_token;
    agent.boot = "boot-of-" + name;
    return agent;
  }

  protocol::SyncUp state_of(AgentState& agent) {
    protocol::SyncUp up;
    up.incarnation = agent.incarnation;
    up.boot_id = agent.boot;
    up.number = ++agent.number;
    for (const auto& [id, observed] : agent.runs) up.runs.push_back(observed);
    return up;
  }

  // One exchange; the agent takes up what it is told and forgets what it may.
  SyncReply sync(AgentState& agent) {
    auto reply = writer->sync(agent.id, state_of(agent));
    if (!reply) throw std::runtime_error(reply.error().message);
    take(agent, reply->down);
    return *reply;
  }

  void take(AgentState& agent, const protocol::SyncDown& down) {
    for (const protocol::WantedRun& wanted : down.wanted) {
      auto& observed = agent.runs[wanted.run_id];
      observed.run_id = wanted.run_id;
    }
    for (const std::int64_t id : down.forget) agent.runs.erase(id);
  }

  // Syncs until the agent has a run, and says that it is measuring.
  std::int64_t start_run(AgentState& agent) {
    sync(agent);
    if (agent.runs.empty()) throw std::runtime_error("agent " + agent.name + " got no run");
    auto& observed = agent.runs.rbegin()->second;
    observed.state = RunState::kMeasuring;
    observed.at = rfc3339(clock.wall_us());
    sync(agent);
    return observed.run_id;
  }

  static nlohmann::json event(const std::string& type, std::int64_t rank, nlohmann::json members) {
    members["type"] = type;
    members["v"] = 1;
    members["rank"] = rank;
    if (!members.contains("t_ns")) members["t_ns"] = 1'000;
    return members;
  }

  static std::vector<nlohmann::json> story_of_rank(const Story& story, std::int64_t rank) {
    const auto length_ns = static_cast<std::int64_t>(story.ms * 1e6 * double(story.steps));
    const auto n = static_cast<std::size_t>(story.steps);
    std::vector<nlohmann::json> events;
    events.push_back(event("hello", rank,
                           {{"ranks", story.ranks},
                            {"host", "a"},
                            {"backend", "onednn"},
                            {"variable_update", "all_reduce (as the worker says)"},
                            {"engine_revision", "e1"},
                            {"threads", 2}}));
    events.push_back(
        event("phase", rank, {{"phase", "measuring"}, {"steps_planned", story.steps}}));
    events.push_back(event("steps", rank,
                           {{"phase", "measuring"},
                            {"first_step", 0},
                            {"ms", std::vector<double>(n, story.ms)},
                            {"loss", std::vector<double>(n, 6.5)},
                            {"input_wait_ms", std::vector<double>(n, 1)},
                            {"exposed_communication_ms", std::vector<double>(n, 0)},
                            {"server_wait_ms", std::vector<double>(n, 0)}}));
    events.push_back(event("summary", rank,
                           {{"images", story.steps * story.batch},
                            {"steps", story.steps},
                            {"start_ns", 5'000'000'000},
                            {"end_ns", 5'000'000'000 + length_ns},
                            {"first_loss", 7.0},
                            {"final_loss", 6.5},
                            {"setup_s", 1.5}}));
    return events;
  }

  // Nothing in it yet.
  static protocol::EventBatch batch_of(std::int64_t run_id, std::int64_t seq = 1) {
    protocol::EventBatch batch;
    batch.run_id = run_id;
    batch.seq = seq;
    return batch;
  }

  // The story in one batch per rank.
  static std::vector<protocol::EventBatch> batches(std::int64_t run_id, const Story& story) {
    std::vector<protocol::EventBatch> out;
    for (std::int64_t rank = 0; rank < story.ranks; ++rank) {
      protocol::EventBatch batch = batch_of(run_id, rank + 1);
      batch.events = story_of_rank(story, rank);
      batch.logs = {{rank, "stdout", rfc3339(1'000'000), "rank " + std::to_string(rank)}};
      out.push_back(std::move(batch));
    }
    return out;
  }

  void report_end(AgentState& agent, std::int64_t run_id, RunState end, Reason reason,
                  std::int64_t last_seq) {
    auto& observed = agent.runs.at(run_id);
    observed.state = end;
    observed.reason = reason;
    observed.at = rfc3339(clock.wall_us());
    observed.last_seq = last_seq;
    observed.all_gone = true;
    sync(agent);
  }

  // Takes the next run and does it to its end.
  std::int64_t complete_run(AgentState& agent, const Story& story = {}) {
    const std::int64_t run_id = start_run(agent);
    const auto sent = batches(run_id, story);
    EXPECT_TRUE(writer->accept_events(agent.id, {sent}).has_value());
    report_end(agent, run_id, RunState::kSucceeded, Reason::kNone,
               static_cast<std::int64_t>(sent.size()));
    return run_id;
  }

  void pass(double seconds) {
    clock.advance_s(seconds);
    writer->tick();
  }

  store::TempFolder folder;
  ManualClock clock;
  Settings settings;
  std::vector<EventLogEntry> events;
  std::vector<LiveEvent> live;
  std::vector<std::int64_t> woken;
  std::unique_ptr<Writer> writer;
  std::unique_ptr<Reader> reader;
};

}  // namespace rackmark::service
