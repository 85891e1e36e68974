// GET /api/v1/events with a real reader: live, filtered, resumed over a restart.
#include <gmock/gmock.h>

#include <condition_variable>
#include <mutex>

#include "tests/controller/api/controller_fixture.hpp"
#include "tests/support/raw_connection.hpp"

namespace rackmark::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Reads a stream on a thread of its own and keeps what came.
class Reader {
 public:
  Reader(net::BaseUrl base, std::string target, std::string last_event_id = "",
         std::chrono::milliseconds give_up_after = 10s) {
    thread_ = std::thread([this, base, target = std::move(target), last_event_id, give_up_after] {
      net::BlockingClient client(base);
      net::SseOptions options;
      options.last_event_id = last_event_id;
      options.give_up_after = give_up_after;
      client.events(target, options, [this](const net::SseEvent& event) { return take(event); });
    });
  }
  // `wake` makes one more event, so that the reader sees it is to end.
  template <class Wake>
  void finish(Wake wake) {
    {
      const std::lock_guard guard(mutex_);
      done_ = true;
    }
    wake();
    thread_.join();
  }
  bool wait(const std::function<bool(const std::vector<net::SseEvent>&)>& enough) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 5s, [&] { return enough(events_); });
  }
  std::vector<net::SseEvent> events() {
    const std::lock_guard guard(mutex_);
    return events_;
  }

 private:
  bool take(const net::SseEvent& event) {
    const std::lock_guard guard(mutex_);
    events_.push_back(event);
    changed_.notify_all();
    return !done_;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<net::SseEvent> events_;
  bool done_ = false;
  std::thread thread_;
};

class EventsTest : public ControllerTest {
 protected:
  void wait_for_stream() {
    for (int i = 0; i < 100; ++i) {
      const auto metrics = client_.request(protocol::Verb::kGet, "/metrics");
      if (metrics && metrics->body.find("rackmark_event_streams 1") != std::string::npos) return;
      std::this_thread::sleep_for(50ms);
    }
    FAIL() << "no stream was opened";
  }
};

bool saw(const std::vector<net::SseEvent>& events, const std::string& type,
         const std::string& part) {
  return std::any_of(events.begin(), events.end(), [&](const auto& e) {
    return e.event == type && e.data.find(part) != std::string::npos;
  });
}

TEST_F(EventsTest, ARunIsSeenLive) {
  Reader reader(controller_.base(), "/api/v1/events");
  wait_for_stream();
  ProtocolAgent agent(controller_.base(), "a");
  const auto job = submit();
  agent.carry_out(agent.wait_for_run());
  EXPECT_TRUE(reader.wait([](const auto& events) {
    return saw(events, "job", R"("state":"succeeded")") && saw(events, "logs", "a line");
  }));
  const auto events = reader.events();
  EXPECT_TRUE(saw(events, "job", R"("state":"running")"));
  EXPECT_TRUE(saw(events, "run", R"("state":"measuring")"));
  EXPECT_TRUE(saw(events, "steps", R"("phase":"measuring")"));
  EXPECT_TRUE(saw(events, "agent", R"("name":"a")"));
  std::int64_t last = 0;
  for (const auto& event : events) {
    if (event.id.empty()) continue;
    EXPECT_GT(std::stoll(event.id), last) << "numbers rise";
    last = std::stoll(event.id);
  }
  reader.finish([&] { submit(); });
}

TEST_F(EventsTest, ResumesOverARestartWithoutGapOrTwin) {
  submit();
  Reader reader(controller_.base(), "/api/v1/events", "0");
  ASSERT_TRUE(reader.wait([](const auto& events) { return !events.empty(); }));
  controller_.stop();
  controller_.start();
  std::vector<std::int64_t> jobs;
  for (int i = 0; i < 5; ++i) jobs.push_back(submit().id);
  const std::string last = "\"id\":" + std::to_string(jobs.back());
  ASSERT_TRUE(reader.wait([&](const auto& events) { return saw(events, "job", last); }));
  std::map<std::string, int> seen;
  for (const auto& event : reader.events()) ++seen[event.id];
  for (const auto& [id, times] : seen) EXPECT_EQ(times, 1) << id;
  EXPECT_GE(seen.size(), 6u);
  reader.finish([&] { submit(); });
}

TEST_F(EventsTest, OneJobsStreamHasOnlyThatJob) {
  const auto first = submit(), second = submit();
  Reader reader(controller_.base(), "/api/v1/events?job=" + std::to_string(second.id), "0", 0s);
  ASSERT_TRUE(reader.wait([](const auto& events) { return !events.empty(); }));
  client_.call(protocol::kCancelJob, first.id);
  client_.call(protocol::kCancelJob, second.id);
  EXPECT_TRUE(
      reader.wait([](const auto& events) { return saw(events, "job", R"("state":"cancelled")"); }));
  for (const auto& event : reader.events()) {
    EXPECT_THAT(event.data, HasSubstr("\"id\":" + std::to_string(second.id)));
  }
  reader.finish([&] { controller_.stop(); });
}

TEST_F(EventsTest, ANumberOfAnotherDatabaseIsAGap) {
  submit();
  RawConnection connection(controller_.port());
  connection.send(
      "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 999999\r\n\r\n");
  const auto head = connection.read_until("event: gap");
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream"));
  EXPECT_THAT(head, HasSubstr("event: gap"));
  submit();
  EXPECT_THAT(connection.read_until("event: job"), HasSubstr("event: job"));
}

}  // namespace
}  // namespace rackmark::test
