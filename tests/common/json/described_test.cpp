#include "common/json/described.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/domain/run_state.hpp"
#include "common/protocol/jobs.hpp"
#include "common/protocol/system.hpp"

namespace rackmark::json {
namespace {

enum class Colour { kRed, kDarkBlue };
BOOST_DESCRIBE_ENUM(Colour, kRed, kDarkBlue)

struct Inner {
  std::int64_t n = 7;
  std::optional<double> ratio;
};
BOOST_DESCRIBE_STRUCT(Inner, (), (n, ratio))
struct Outer {
  std::string text = "x";
  bool flag = false;
  Colour colour = Colour::kRed;
  Inner inner;
  std::vector<Inner> list;
  std::map<std::string, std::int64_t> counts;
  std::uint8_t small = 0;
  json any;
};
BOOST_DESCRIBE_STRUCT(Outer, (), (text, flag, colour, inner, list, counts, small, any))

std::string problem_of(const char* text) {
  const auto result = decode<Outer>(json::parse(text), Unknown::kRefuse);
  return result ? "" : result.error().fields[0].field;
}

TEST(Described, NamesOnTheWire) {
  EXPECT_EQ(wire_name("kOutOfMemory"), "out_of_memory");
  EXPECT_EQ(wire_name("kGpu"), "gpu");
  EXPECT_EQ(enum_name(Colour::kDarkBlue), "dark_blue");
  EXPECT_EQ(enum_from<Colour>("red"), Colour::kRed);
  EXPECT_FALSE(enum_from<Colour>("kRed"));
  EXPECT_FALSE(enum_from<Colour>(""));
}

TEST(Described, EveryReasonHasItsOwnName) {
  const auto names = enum_names<Reason>();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const auto& name : names) EXPECT_EQ(enum_name(*enum_from<Reason>(name)), name);
}

TEST(Described, RoundTrip) {
  Outer outer;
  outer.text = "y";
  outer.colour = Colour::kDarkBlue;
  outer.inner.ratio = 0.5;
  outer.list.resize(2);
  outer.counts = {{"a", 1}};
  outer.any = {{"k", {1, 2}}};
  const json written = encode(outer);
  const auto again = decode<Outer>(written, Unknown::kRefuse);
  ASSERT_TRUE(again);
  EXPECT_EQ(encode(*again), written);
  EXPECT_EQ(written["list"][0]["ratio"], nullptr);
}

TEST(Described, MissingMembersKeepTheirDefault) {
  const auto outer = decode<Outer>(json::object(), Unknown::kRefuse);
  ASSERT_TRUE(outer);
  EXPECT_EQ(outer->text, "x");
  EXPECT_EQ(outer->inner.n, 7);
}

TEST(Described, WrongTypesNameThePath) {
  EXPECT_EQ(problem_of(R"({"text": 1})"), "text");
  EXPECT_EQ(problem_of(R"({"flag": "yes"})"), "flag");
  EXPECT_EQ(problem_of(R"({"colour": "green"})"), "colour");
  EXPECT_EQ(problem_of(R"({"inner": 3})"), "inner");
  EXPECT_EQ(problem_of(R"({"inner": {"n": 1.5}})"), "inner.n");
  EXPECT_EQ(problem_of(R"({"list": [{}, {"ratio": "x"}]})"), "list[1].ratio");
  EXPECT_EQ(problem_of(R"({"counts": {"a": null}})"), "counts.a");
  EXPECT_EQ(problem_of(R"({"small": 256})"), "small");
  EXPECT_EQ(problem_of(R"({"small": -1})"), "small");
  EXPECT_EQ(problem_of(R"({"inner": {"n": 18446744073709551615}})"), "inner.n");
  EXPECT_EQ(problem_of(R"({"inner": {"n": 16.0}})"), "");
}

TEST(Described, UnknownMembersAreRefusedOrPassed) {
  const json from = json::parse(R"({"inner": {"m": 1}, "list": [{"z": 1}]})");
  EXPECT_TRUE(decode<Outer>(from, Unknown::kIgnore));
  const auto refused = decode<Outer>(from, Unknown::kRefuse);
  ASSERT_FALSE(refused);
  ASSERT_EQ(refused.error().fields.size(), 2u);
  EXPECT_EQ(refused.error().fields[0].field, "inner.m");
  EXPECT_EQ(refused.error().fields[0].allowed, "n, ratio");
  EXPECT_EQ(refused.error().fields[1].field, "list[0].z");
}

TEST(Described, ANumberThatIsNoneIsNull) {
  Inner inner;
  inner.ratio = std::nan("");
  EXPECT_EQ(encode(inner)["ratio"], nullptr);
  inner.ratio = std::numeric_limits<double>::infinity();
  EXPECT_EQ(encode(inner)["ratio"], nullptr);
}

TEST(Described, TextThatIsNotJson) {
  EXPECT_EQ(json::parse("[1]"), *parse("[1]"));
  for (const char* text : {"", "{", "{\"a\":}", "nul", "{} x", "\"\xff\"", "1e999", "[1,]"}) {
    const auto result = parse(text);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, ErrorCode::kMalformed) << text;
  }
}

TEST(Described, DepthIsLimited) {
  EXPECT_TRUE(parse(std::string(60, '[') + std::string(60, ']')));
  EXPECT_FALSE(parse(std::string(70, '[') + std::string(70, ']')));
  EXPECT_FALSE(parse(std::string(1'000'000, '[')));
}

// The wire structs are all described: what a neighbour sends comes back whole.
TEST(Described, ProtocolStructsRoundTrip) {
  protocol::JobView job;
  job.id = 42;
  job.state = JobState::kFailed;
  job.outcome = RunState::kOutOfMemory;
  job.runs.resize(1);
  job.runs[0].result.emplace();
  job.headline.spread.kind = "steps";
  const json written = encode(job);
  EXPECT_EQ(written["outcome"], "out_of_memory");
  EXPECT_EQ(written["headline"]["images_per_second"], nullptr);
  const auto again = decode<protocol::JobView>(written, Unknown::kRefuse);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(encode(*again), written);
  const protocol::Problem problem{.title = "t", .errors = {{.field = "f", .value = 3}}};
  EXPECT_EQ(encode(*decode<protocol::Problem>(encode(problem), Unknown::kRefuse)), encode(problem));
}

}  // namespace
}  // namespace rackmark::json
