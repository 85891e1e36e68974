#include "common/net/sse.hpp"

#include <gtest/gtest.h>

namespace rackmark::net {
namespace {

struct Collected {
  std::vector<SseEvent> events;
  bool ok = true;
};

Collected parse(const std::vector<std::string>& pieces) {
  Collected out;
  SseParser parser;
  for (const auto& piece : pieces) {
    out.ok = parser.feed(piece, [&](const SseEvent& event) { out.events.push_back(event); });
  }
  return out;
}

TEST(SseParser, ReadsAnEvent) {
  const auto got = parse({"id: 7\nevent: job\ndata: {\"id\":1}\n\n"});
  ASSERT_EQ(got.events.size(), 1u);
  EXPECT_EQ(got.events[0].id, "7");
  EXPECT_EQ(got.events[0].event, "job");
  EXPECT_EQ(got.events[0].data, "{\"id\":1}");
}

TEST(SseParser, PiecesMayEndAnywhere) {
  const std::string text = "id: 7\r\nevent: job\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n";
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    const auto got = parse({text.substr(0, cut), text.substr(cut)});
    ASSERT_EQ(got.events.size(), 2u) << cut;
    EXPECT_EQ(got.events[0].data, "a\nb");
    EXPECT_EQ(got.events[1].data, "c");
    EXPECT_EQ(got.events[1].event, "message");
    EXPECT_EQ(got.events[1].id, "") << "a live event has no number";
  }
}

TEST(SseParser, CommentsAndUnknownFieldsAreNoEvents) {
  EXPECT_TRUE(parse({": still here\n\n", "retry: 1000\n\n", "event: x\n\n"}).events.empty());
}

TEST(SseParser, AnEndlessLineIsRefused) {
  EXPECT_TRUE(parse({std::string(1 << 19, 'x')}).ok);
  EXPECT_FALSE(parse({std::string((1 << 20) + 1, 'x')}).ok);
}

}  // namespace
}  // namespace rackmark::net
