#include "common/net/problem.hpp"

#include <gmock/gmock.h>

#include "common/json/described.hpp"
#include "common/net/http_client.hpp"

namespace rackmark::net {
namespace {

constexpr ErrorCode kAll[] = {
    ErrorCode::kMalformed,        ErrorCode::kInvalid,  ErrorCode::kUnauthorized,
    ErrorCode::kForbidden,        ErrorCode::kNotFound, ErrorCode::kMethodNotAllowed,
    ErrorCode::kConflict,         ErrorCode::kGone,     ErrorCode::kTooLarge,
    ErrorCode::kUnsupportedMedia, ErrorCode::kTooMany,  ErrorCode::kInternal,
    ErrorCode::kUnavailable};

TEST(Problem, EveryCodeHasAStatusOfItsOwnAndComesBack) {
  std::set<int> seen;
  for (const ErrorCode code : kAll) {
    const int status = status_of(code);
    EXPECT_TRUE(seen.insert(status).second) << status;
    const auto body = json::encode(to_problem({code, "why", {}}, "/x")).dump();
    EXPECT_EQ(from_problem(status, body).code, code);
    EXPECT_NE(title_of(status), "Error");
  }
}

TEST(Problem, FieldsTravel) {
  const Error sent = invalid("steps.measured", 0, "1 to 1000000", "steps.measured is 0");
  const auto body = json::encode(to_problem(sent, "/api/v1/jobs")).dump();
  const Error got = from_problem(422, body);
  EXPECT_EQ(got.code, ErrorCode::kInvalid);
  EXPECT_EQ(got.message, "steps.measured is 0");
  ASSERT_EQ(got.fields.size(), 1u);
  EXPECT_EQ(got.fields[0].field, "steps.measured");
  EXPECT_EQ(got.fields[0].value, 0);
  EXPECT_EQ(got.fields[0].allowed, "1 to 1000000");
}

TEST(Problem, InternalErrorsCarryNoDetail) {
  const auto problem = to_problem({ErrorCode::kInternal, "disk /dev/sda1 broke", {}}, "/x");
  EXPECT_THAT(problem.detail, testing::Not(testing::HasSubstr("sda1")));
}

TEST(Problem, WhatSomethingElseAnswersSaysNothingAboutWhatWasAsked) {
  for (const char* body :
       {"", "<html>", "[]", "{\"status\":\"x\"}", "null", "{\"detail\":\"Not Found\"}",
        "{\"title\":\"Not Found\"}", "{\"title\":\"Gone\",\"status\":410}"}) {
    const Error error = from_problem(404, body);
    EXPECT_EQ(error.code, ErrorCode::kUnavailable) << body;
    EXPECT_THAT(error.message, testing::HasSubstr("404 Not Found from something")) << body;
  }
  EXPECT_EQ(from_problem(404, R"({"title":"","status":404})").message, "Not Found");
}

TEST(BlockingClient, NamesTheAddressThatCannotBeReached) {
  BlockingClient client(*parse_base_url("http://127.0.0.1:9"));
  const auto reply = client.request(protocol::Verb::kGet, "/");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(reply.error().message, testing::HasSubstr("http://127.0.0.1:9"));
}

}  // namespace
}  // namespace rackmark::net
