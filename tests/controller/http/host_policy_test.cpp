#include "controller/http/host_policy.hpp"

#include <gtest/gtest.h>

namespace rackmark::http {
namespace {

std::optional<ErrorCode> check(std::string method, Headers headers, HostPolicy policy = {}) {
  Request request;
  request.method = std::move(method);
  request.headers = std::move(headers);
  const auto refused = check_host(request, policy);
  return refused ? std::optional(refused->code) : std::nullopt;
}
constexpr auto kFine = std::nullopt;

TEST(HostPolicy, LoopbackNamesAreServed) {
  for (const char* host :
       {"localhost", "LOCALHOST:8780", "127.0.0.1:8780", "[::1]:8780", "[::1]", "127.0.0.2"}) {
    EXPECT_EQ(check("GET", {{"Host", host}}), kFine) << host;
  }
}

TEST(HostPolicy, ForeignNamesAreNot) {
  for (const char* host : {"evil.example", "localhost.evil.example:8780", "10.0.0.7", "127.0.0.1.x",
                           "xn--localhost-"}) {
    EXPECT_EQ(check("GET", {{"Host", host}}), ErrorCode::kForbidden) << host;
  }
}

TEST(HostPolicy, ExactlyOneValidHost) {
  EXPECT_EQ(check("GET", {}), ErrorCode::kMalformed);
  EXPECT_EQ(check("GET", {{"Host", ""}}), ErrorCode::kMalformed);
  EXPECT_EQ(check("GET", {{"Host", "a@localhost"}}), ErrorCode::kMalformed);
  EXPECT_EQ(check("GET", {{"Host", "localhost"}, {"host", "evil.example"}}), ErrorCode::kMalformed);
}

TEST(HostPolicy, NamesAndAddressesCanBeAllowed) {
  const HostPolicy policy{{"Bench.example"}, true};
  EXPECT_EQ(check("GET", {{"Host", "bench.example:8780"}}, policy), kFine);
  EXPECT_EQ(check("GET", {{"Host", "10.0.0.7:8780"}}, policy), kFine);
  EXPECT_EQ(check("GET", {{"Host", "other.example"}}, policy), ErrorCode::kForbidden);
}

TEST(HostPolicy, APageElsewhereCannotChangeAnything) {
  const std::pair<std::string, std::string> host{"Host", "localhost:8780"};
  EXPECT_EQ(check("POST", {host}), kFine) << "no browser";
  EXPECT_EQ(check("POST", {host, {"Origin", "http://localhost:8780"}}), kFine);
  for (const char* origin : {"http://evil.example", "null", "http://localhost:3000",
                             "http://127.0.0.1:8780", "localhost:8780"}) {
    EXPECT_EQ(check("POST", {host, {"Origin", origin}}), ErrorCode::kForbidden) << origin;
    EXPECT_EQ(check("DELETE", {host, {"Origin", origin}}), ErrorCode::kForbidden) << origin;
    EXPECT_EQ(check("GET", {host, {"Origin", origin}}), kFine)
        << "reading is the browser's to hide";
  }
}

TEST(HostPolicy, AConfiguredNameMayBeBehindAProxy) {
  const HostPolicy policy{{"bench.example"}, false};
  EXPECT_EQ(
      check("POST", {{"Host", "127.0.0.1:8780"}, {"Origin", "https://bench.example"}}, policy),
      kFine);
}

}  // namespace
}  // namespace rackmark::http
