#include "common/net/target.hpp"

#include <gtest/gtest.h>

namespace rackmark::net {
namespace {

TEST(BaseUrl, TakesHostAndPort) {
  const auto url = parse_base_url("http://127.0.0.1:8780");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "127.0.0.1");
  EXPECT_EQ(url->port, 8780);
  EXPECT_EQ(url->text(), "http://127.0.0.1:8780");
  EXPECT_EQ(parse_base_url("http://bench.example/")->port, 80);
}

TEST(BaseUrl, KeepsIpv6InBracketsWhereTheyBelong) {
  const auto url = parse_base_url("http://[::1]:1234");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "::1");
  EXPECT_EQ(url->authority(), "[::1]:1234");
}

TEST(BaseUrl, RefusesWhatItCannotCall) {
  for (const char* text :
       {"", "localhost:8780", "https://localhost:8780", "http://", "http://a:b@c:1", "ftp://x",
        "http://x/api", "http://x?y=1", "http://x:99999", "http://x:0", "http://x y"}) {
    EXPECT_FALSE(parse_base_url(text)) << text;
  }
}

TEST(Target, IdsTakeTheirPlace) {
  EXPECT_EQ(expand_path("/api/v1/jobs/{id}:cancel", 42), "/api/v1/jobs/42:cancel");
  EXPECT_EQ(expand_path("/api/v1/jobs", {}), "/api/v1/jobs");
}

TEST(Target, QueriesLeaveOutDefaultsAndEncode) {
  const nlohmann::json defaults{{"limit", 50}, {"name", nullptr}};
  EXPECT_EQ(query_string({{"limit", 50}, {"name", nullptr}}, defaults), "");
  EXPECT_EQ(query_string({{"limit", 5}, {"name", "a b&c=\xC3\xA4"}}, defaults),
            "?limit=5&name=a%20b%26c%3D%C3%A4");
}

}  // namespace
}  // namespace rackmark::net
