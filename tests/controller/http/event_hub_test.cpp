#include "controller/http/event_hub.hpp"

#include <gmock/gmock.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

namespace rackmark::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;
using testing::Not;

class EventHubTest : public testing::Test {
 protected:
  // A log of rows 1..rows_, in pages of three.
  asio::awaitable<std::vector<Frame>> replay(std::int64_t after, std::optional<std::int64_t>) {
    std::vector<Frame> page;
    for (std::int64_t id = after + 1; id <= rows_ && page.size() < 3; ++id) {
      page.push_back(make_frame(id, 1, "job", "row" + std::to_string(id)));
    }
    co_return page;
  }
  EventHub make(HubLimits limits = {}) {
    limits.heartbeat = std::chrono::milliseconds(30);
    return EventHub(
        context_.get_executor(),
        [this](std::int64_t after, std::optional<std::int64_t> job) { return replay(after, job); },
        limits);
  }
  std::optional<std::string> next(Stream& stream) {
    std::optional<std::string> got;
    asio::co_spawn(context_, stream.next(),
                   [&](const std::exception_ptr&, std::optional<std::string> text) { got = text; });
    context_.restart();
    context_.run();
    return got;
  }
  asio::io_context context_{1};
  std::int64_t rows_ = 0;
};

TEST_F(EventHubTest, FramesHaveTheStandardsForm) {
  EXPECT_EQ(*make_frame(5, 1, "job", "{}").text, "id: 5\nevent: job\ndata: {}\n\n");
  EXPECT_EQ(*make_frame(std::nullopt, 1, "logs", "{}").text, "event: logs\ndata: {}\n\n");
}

TEST_F(EventHubTest, LiveEventsArriveInOrder) {
  EventHub hub = make();
  auto stream = *hub.subscribe({});
  EXPECT_THAT(*next(*stream), HasSubstr("retry:"));
  hub.publish(make_frame(1, 1, "job", "a"));
  hub.publish(make_frame(std::nullopt, 1, "steps", "b"));
  EXPECT_EQ(*next(*stream), "id: 1\nevent: job\ndata: a\n\nevent: steps\ndata: b\n\n");
}

TEST_F(EventHubTest, AQuietStreamBeats) {
  EventHub hub = make();
  auto stream = *hub.subscribe({});
  next(*stream);
  EXPECT_EQ(*next(*stream), "event: ping\ndata: {}\n\n");
}

TEST_F(EventHubTest, ResumesFromTheLogWithoutGapsOrTwins) {
  rows_ = 7;
  EventHub hub = make();
  auto stream = *hub.subscribe({std::nullopt, 2, false});
  next(*stream);
  std::string got = *next(*stream);  // rows 3 to 5
  rows_ = 8;  // committed while we read, so it is in the log and in the queue
  hub.publish(make_frame(8, 1, "job", "row8"));
  hub.publish(make_frame(9, 1, "job", "row9"));
  got += *next(*stream);
  got += *next(*stream);
  EXPECT_EQ(got,
            "id: 3\nevent: job\ndata: row3\n\nid: 4\nevent: job\ndata: row4\n\n"
            "id: 5\nevent: job\ndata: row5\n\nid: 6\nevent: job\ndata: row6\n\n"
            "id: 7\nevent: job\ndata: row7\n\nid: 8\nevent: job\ndata: row8\n\n"
            "id: 9\nevent: job\ndata: row9\n\n");
}

TEST_F(EventHubTest, AGapIsTold) {
  EventHub hub = make();
  auto stream = *hub.subscribe({std::nullopt, 2, true});
  EXPECT_THAT(*next(*stream), HasSubstr("event: gap\n"));
}

TEST_F(EventHubTest, FiltersByJob) {
  EventHub hub = make();
  auto stream = *hub.subscribe({7, std::nullopt, false});
  next(*stream);
  hub.publish(make_frame(1, 6, "job", "other"));
  hub.publish(make_frame(2, std::nullopt, "agent", "nobody's"));
  hub.publish(make_frame(3, 7, "job", "mine"));
  EXPECT_EQ(*next(*stream), "id: 3\nevent: job\ndata: mine\n\n");
}

TEST_F(EventHubTest, ASlowReaderIsDroppedAndOthersAreNot) {
  HubLimits limits;
  limits.queued_frames = 10;
  EventHub hub = make(limits);
  auto slow = *hub.subscribe({}), quick = *hub.subscribe({});
  next(*slow), next(*quick);
  for (int i = 0; i < 11; ++i) {
    hub.publish(make_frame(i + 1, 1, "job", "x"));
    EXPECT_TRUE(next(*quick));
  }
  EXPECT_FALSE(next(*slow)) << "ended, not silently short";
  EXPECT_EQ(hub.dropped(), 1u);
}

TEST_F(EventHubTest, QueuedBytesAreBounded) {
  HubLimits limits;
  limits.queued_bytes = 1000;
  EventHub hub = make(limits);
  auto stream = *hub.subscribe({});
  next(*stream);
  hub.publish(make_frame(1, 1, "job", std::string(1001, 'x')));
  EXPECT_FALSE(next(*stream));
}

TEST_F(EventHubTest, SubscribersAreBoundedAndCounted) {
  HubLimits limits;
  limits.subscribers = 1;
  EventHub hub = make(limits);
  auto first = hub.subscribe({});
  EXPECT_EQ(hub.subscribe({}).error().code, ErrorCode::kTooMany);
  EXPECT_EQ(hub.subscribers(), 1u);
  *first = nullptr;
  EXPECT_EQ(hub.subscribers(), 0u);
  EXPECT_TRUE(hub.subscribe({}));
}

TEST_F(EventHubTest, CloseEndsEveryStream) {
  std::unique_ptr<EventHub> hub(new EventHub(make()));
  auto stream = *hub->subscribe({});
  next(*stream);
  hub->close();
  EXPECT_FALSE(next(*stream));
  EXPECT_EQ(hub->subscribe({}).error().code, ErrorCode::kUnavailable);
  hub.reset();
  EXPECT_FALSE(next(*stream)) << "a stream may outlive the hub";
}

}  // namespace
}  // namespace rackmark::http
