// A fleet under random faults: lost answers, late and repeated messages, silent and restarted
// agents, a controller that is closed and opened again. What must hold is checked after each step.
#include <gmock/gmock.h>

#include <random>

#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

constexpr double kLeaseS = 60;

// RACKMARK_SEED_OFFSET=100 tries other fleets than the six of every day.
unsigned seed_offset() {
  const char* text = std::getenv("RACKMARK_SEED_OFFSET");
  return text ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : 0;
}

// An agent as the protocol demands it, with the truth about its processes.
struct SimulatedHost {
  AgentState state;
  std::map<std::int64_t, Story> live;                               // runs with live processes
  std::map<std::int64_t, std::vector<protocol::EventBatch>> spool;  // made, in order of seq
  std::map<std::int64_t, std::int64_t> accepted;                    // up to here told as stored
  std::optional<protocol::SyncUp> old_sync;                         // to be delivered late
  double fence_at_s = 0;  // kills its workers then, unless a sync is answered
  int silent_steps = 0;
};

// The sanitizers slow every step down twelvefold; the whole walk is the release build's.
#ifdef __SANITIZE_ADDRESS__
constexpr int kSteps = 170;
#else
constexpr int kSteps = 500;
#endif

class ModelTest : public Fleet, public ::testing::WithParamInterface<unsigned> {
 protected:
  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random); }
  bool chance(int percent) { return below(100) < percent; }
  double now_s() const { return static_cast<double>(clock.monotonic_ns()) / 1e9; }

  void end_here(SimulatedHost& host, std::int64_t run_id, RunState end, Reason reason) {
    host.live.erase(run_id);
    auto& observed = host.state.runs[run_id];
    observed.run_id = run_id;
    if (is_terminal(observed.state)) return;
    observed.state = end;
    observed.reason = reason;
    observed.at = rfc3339(clock.wall_us());
    observed.all_gone = true;
    observed.last_seq = static_cast<std::int64_t>(host.spool[run_id].size());
  }

  void fence(SimulatedHost& host) {
    if (now_s() < host.fence_at_s) return;
    const auto live = host.live;
    for (const auto& [run_id, story] : live) {
      end_here(host, run_id, RunState::kFailed, Reason::kAgentLost);
    }
  }

  void obey(SimulatedHost& host, const protocol::SyncDown& down) {
    std::set<std::int64_t> wanted;
    for (const auto& run : down.wanted) {
      wanted.insert(run.run_id);
      if (host.state.runs.contains(run.run_id)) continue;
      host.state.runs[run.run_id].run_id = run.run_id;
      host.live[run.run_id] = {1, 2 + below(4), 16, 50.0 + below(200)};
    }
    const auto live = host.live;
    for (const auto& [run_id, story] : live) {
      if (!wanted.contains(run_id)) {
        end_here(host, run_id, RunState::kCancelled, Reason::kCancelledByUser);
      }
    }
    for (const std::int64_t run_id : down.forget) {
      EXPECT_TRUE(is_terminal(host.state.runs[run_id].state));
      host.state.runs.erase(run_id);
      host.spool.erase(run_id);
    }
  }

  void exchange(SimulatedHost& host) {
    fence(host);
    const auto up = state_of(host.state);
    const double sent_s = now_s();
    const auto reply = writer->sync(host.state.id, up);
    if (chance(20)) host.old_sync = up;
    if (!reply || chance(10)) return;  // refused (another boot), or the answer is lost
    host.fence_at_s = sent_s + kLeaseS * 5 / 6;
    obey(host, reply->down);
  }

  // One step of the work: a phase, some events, or the end.
  void work(SimulatedHost& host) {
    if (host.live.empty()) return;
    const auto [run_id, story] = *host.live.begin();
    auto& observed = host.state.runs[run_id];
    auto& spool = host.spool[run_id];
    if (observed.state < RunState::kMeasuring) {
      observed.state = static_cast<RunState>(static_cast<int>(observed.state) + 1);
      return;
    }
    const auto all = story_of_rank(story, 0);
    if (spool.size() < all.size()) {
      protocol::EventBatch batch = batch_of(run_id, static_cast<std::int64_t>(spool.size()) + 1);
      batch.events = {all[spool.size()]};
      spool.push_back(std::move(batch));
      if (chance(6)) end_here(host, run_id, RunState::kFailed, Reason::kWorkerCrashed);
      return;
    }
    hand_value[run_id] = 16.0 * 1000 / story.ms;
    end_here(host, run_id, RunState::kSucceeded, Reason::kNone);
  }

  // Sends some of the spool, in any order and again and again.
  void upload(SimulatedHost& host) {
    for (auto& [run_id, spool] : host.spool) {
      protocol::EventUpload upload;
      for (const auto& batch : spool) {
        if (chance(80)) upload.batches.push_back(batch);
        if (chance(10)) upload.batches.push_back(batch);
      }
      std::shuffle(upload.batches.begin(), upload.batches.end(), random);
      if (upload.batches.empty()) continue;
      ASSERT_TRUE(writer->accept_events(host.state.id, upload).has_value());
    }
  }

  void restart(SimulatedHost& host) {
    host.live.clear();  // the guard kills them
    host.state.incarnation = std::to_string(1000 + ++incarnations);
    host.state.number = 0;
    host.old_sync.reset();
    if (chance(50)) {  // its state folder survived, and it knows that they are dead
      for (auto& [run_id, observed] : host.state.runs) {
        end_here(host, run_id, RunState::kFailed, Reason::kAgentRestarted);
      }
    } else {
      host.state.runs.clear();
      host.spool.clear();
    }
    if (chance(20)) host.state.boot = "boot-" + std::to_string(++incarnations);
  }

  void step() {
    const int what = below(100);
    if (what < 6 && jobs.size() < 25) {
      auto wanted = spec();
      wanted["retries"] = below(3);
      wanted["repetitions"] = 1 + below(2);
      jobs.push_back(submit(wanted).id);
    } else if (what < 8 && !jobs.empty()) {
      (void)writer->cancel(jobs[static_cast<std::size_t>(below(static_cast<int>(jobs.size())))]);
    } else if (what < 10) {
      open();
    } else if (what < 30) {
      clock.advance_s(1 + below(4));
      for (SimulatedHost& host : hosts) fence(host);
      writer->tick();
    } else {
      SimulatedHost& host = hosts[static_cast<std::size_t>(below(static_cast<int>(hosts.size())))];
      if (host.silent_steps > 0) {
        --host.silent_steps;
      } else if (what < 31) {
        host.silent_steps = 20 + below(60);
      } else if (what < 33) {
        restart(host);
      } else if (what < 35 && host.old_sync) {
        (void)writer->sync(host.state.id, *host.old_sync);
      } else if (what < 60) {
        work(host);
      } else if (what < 80) {
        upload(host);
      } else {
        exchange(host);
      }
    }
  }

  void check() {
    std::map<std::int64_t, int> live_of_job;
    for (const SimulatedHost& host : hosts) {
      EXPECT_LE(host.live.size(), 1U) << "a host runs one thing at a time";
      for (const auto& [run_id, story] : host.live) ++live_of_job[run(run_id).job_id];
    }
    for (const auto& [job_id, count] : live_of_job) {
      EXPECT_LE(count, 1) << "two live attempts of job " << job_id;
    }
    for (const std::int64_t id : jobs) check_job(job(id));
  }

  void check_job(const protocol::JobView& view) {
    if (is_terminal(view.state)) {
      const auto key = json::encode(view).dump();
      const auto [known, added] = ended_jobs.emplace(view.id, key);
      EXPECT_EQ(known->second, key) << "a job that was over has changed";
    }
    std::vector<double> rates;
    std::set<std::pair<std::int64_t, std::int64_t>> attempts;
    for (const auto& r : view.runs) {
      EXPECT_TRUE(attempts.emplace(r.repetition, r.attempt).second);
      EXPECT_EQ(r.result.has_value(), r.state == RunState::kSucceeded);
      if (!r.result) continue;
      EXPECT_NEAR(r.result->images_per_second, hand_value.at(r.id), 1e-9 * hand_value.at(r.id));
      rates.push_back(r.result->images_per_second);
    }
    if (view.state == JobState::kSucceeded) {
      EXPECT_NEAR(*view.headline.images_per_second, *measure::median(rates), 1e-9);
    } else if (is_terminal(view.state)) {
      EXPECT_FALSE(view.headline.images_per_second);
    }
  }

  // Everybody behaves until nothing is left to do.
  void settle() {
    for (SimulatedHost& host : hosts) host.silent_steps = 0;
    for (int round = 0; round < 600; ++round) {
      bool active = false;
      for (const std::int64_t id : jobs) active |= !is_terminal(job(id).state);
      if (!active) return;
      for (SimulatedHost& host : hosts) {
        fence(host);
        work(host);
        upload(host);
        exchange(host);
      }
      clock.advance_s(4);
      writer->tick();
    }
    for (const std::int64_t id : jobs) {
      if (is_terminal(job(id).state)) continue;
      ADD_FAILURE() << "job " << id << " never ended:\n" << json::encode(job(id)).dump(1);
    }
  }

  std::mt19937 random{GetParam() + seed_offset()};
  std::vector<SimulatedHost> hosts;
  std::vector<std::int64_t> jobs;
  std::map<std::int64_t, double> hand_value;       // run -> images per second
  std::map<std::int64_t, std::string> ended_jobs;  // id -> its view when it ended
  int incarnations = 0;
};

TEST_P(ModelTest, NothingIsLostAndNothingRunsTwice) {
  for (const char* name : {"a", "b", "c"}) {
    hosts.push_back({enrol(name)});
    hosts.back().state.incarnation = "1000";
  }
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    step();
    if (i % 10 == 0) check();
  }
  settle();
  check();
  std::size_t results = 0;
  for (const std::int64_t id : jobs) {
    for (const auto& r : job(id).runs) results += r.state == RunState::kSucceeded ? 1 : 0;
  }
  EXPECT_EQ(reader->results({.limit = 1000})->items.size(), results);
  EXPECT_GT(results, 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, ::testing::Range(1U, 7U));

}  // namespace
}  // namespace rackmark::service
