#include "worker/measure/events.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include "common/json/described.hpp"

namespace rackmark::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EventsTest : public ::testing::Test {
 protected:
  EventsTest() {
    std::signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_.data()), 0);
  }
  ~EventsTest() override { close_reader(); }
  void close_reader() {
    if (ends_[0] >= 0) ::close(ends_[0]);
    ends_[0] = -1;
  }
  int writer() const { return ends_[1]; }  // the sink takes it over
  // Everything until the sink has closed its end.
  std::vector<Json> read_all() {
    std::string text;
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::read(ends_[0], buffer.data(), buffer.size())) > 0;) {
      text.append(buffer.data(), static_cast<std::size_t>(n));
    }
    std::vector<Json> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
    return lines;
  }

  std::array<int, 2> ends_{-1, -1};
  SystemClock clock_;
};

TEST_F(EventsTest, LinesCarryTypeVersionRankAndTime) {
  {
    LineSink sink(writer());
    Events events(&sink, 3, clock_);
    protocol::HelloEvent hello;
    hello.host = "node7";
    events.hello(hello);
    events.phase("warmup", 10);
    events.failure(Reason::kInputBroken, "nothing \xff decodes");
  }
  const auto lines = read_all();
  ASSERT_EQ(lines.size(), 3U);
  for (const Json& line : lines) {
    EXPECT_EQ(line.at("v"), 1);
    EXPECT_EQ(line.at("rank"), 3);
    EXPECT_GT(line.at("t_ns").get<std::int64_t>(), 0);
  }
  EXPECT_EQ(lines[0].at("type"), "hello");
  EXPECT_EQ(lines[0].at("host"), "node7");
  EXPECT_EQ(lines[1].at("steps_planned"), 10);
  EXPECT_EQ(lines[2].at("reason"), "input_broken");
  EXPECT_EQ(lines[2].at("phase"), "warmup");
}

TEST_F(EventsTest, StepsAreCollectedPerPhaseInParallelArrays) {
  {
    LineSink sink(writer());
    Events events(&sink, 0, clock_);
    events.phase("warmup", 2);
    events.step({.ms = 1, .loss = 7});
    events.step({.ms = 2, .loss = 6});
    events.phase("measuring", 3);
    events.step({.ms = 3, .loss = 5, .input_wait_ms = 0.5});
    events.flush();
    events.step({.ms = 4, .loss = 4, .exposed_communication_ms = 0.25, .server_wait_ms = 0.75});
    events.phase("collecting");
    events.summary({});
  }
  std::vector<Json> steps;
  std::vector<std::string> types;
  for (const Json& line : read_all()) {
    types.push_back(line.at("type"));
    if (line.at("type") == "steps") steps.push_back(line);
  }
  EXPECT_THAT(types, ElementsAre("phase", "steps", "phase", "steps", "steps", "phase", "summary"));
  EXPECT_EQ(steps[0].at("phase"), "warmup");
  EXPECT_EQ(steps[0].at("ms"), Json({1.0, 2.0}));
  EXPECT_EQ(steps[1].at("first_step"), 0);
  EXPECT_EQ(steps[2].at("first_step"), 1);
  EXPECT_EQ(steps[2].at("exposed_communication_ms"), Json({0.25}));
  EXPECT_EQ(steps[2].at("server_wait_ms"), Json({0.75}));
  const auto decoded = Json::parse(steps[1].dump());
  const auto event =
      rackmark::json::decode<protocol::StepsEvent>(decoded, rackmark::json::Unknown::kIgnore);
  ASSERT_TRUE(event);
  EXPECT_THAT(event->input_wait_ms, ElementsAre(0.5));
}

TEST_F(EventsTest, StepsGoOutByThemselvesAndTelemetryFollows) {
  LineSink sink(writer());
  Events events(&sink, 0, clock_);
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  events.hello({});
  events.phase("measuring");
  events.step({.ms = 1, .loss = 1});
  std::string text;
  std::array<char, 4096> buffer{};
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (text.find("telemetry") == std::string::npos &&
         std::chrono::steady_clock::now() < give_up) {
    const ssize_t n = ::recv(ends_[0], buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) text.append(buffer.data(), static_cast<std::size_t>(n));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(Json::parse(text.substr(0, text.find('\n'))).at("type"), "hello")
      << "not the first line";
  EXPECT_THAT(text, HasSubstr("\"type\":\"steps\""));
  const std::size_t at = text.rfind('\n', text.find("telemetry"));
  const Json sample = Json::parse(text.substr(at + 1, text.find('\n', at + 1) - at - 1));
  EXPECT_GT(sample.at("rss_bytes").get<double>(), 1e6);
  EXPECT_GE(sample.at("cpu_fraction").get<double>(), 0);
  EXPECT_TRUE(sample.at("power_w").is_null()) << "what is not measured is null, never 0";
}

TEST_F(EventsTest, ASlowReaderNeverBlocksTheLoop) {
  LineSink sink(writer(), true, 1 << 20);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 3000 && sink.broken().empty(); ++i) sink.write(std::string(1000, 'x'));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_THAT(sink.broken(), HasSubstr("too slow"));
}

TEST_F(EventsTest, AGoneReaderIsNoticed) {
  LineSink sink(writer());
  Events events(&sink, 0, clock_);
  close_reader();
  events.phase("measuring");
  EXPECT_FALSE(sink.drain(10));
  EXPECT_THAT(events.lost(), HasSubstr("gone"));
}

TEST(ConnectUnix, NamesTheSocket) {
  try {
    connect_unix("/nowhere/events.sock");
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nowhere/events.sock"));
  }
  EXPECT_THROW(connect_unix(std::string(200, 'x')), std::runtime_error);
}

TEST(ProcessAge, IsSmallAndPositive) {
  const auto age_s = process_age_s();
  ASSERT_TRUE(age_s);
  EXPECT_GE(*age_s, 0);
  EXPECT_LT(*age_s, 600);
}

}  // namespace
}  // namespace rackmark::worker
