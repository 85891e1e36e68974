#include "common/protocol/system.hpp"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "common/clock.hpp"
#include "controller/service/reader.hpp"
#include "tests/controller/api/controller_fixture.hpp"

namespace rackmark::test {
namespace {

using namespace std::chrono_literals;
using protocol::Verb;
using testing::HasSubstr;

class SystemTest : public ControllerTest {
 protected:
  net::HttpReply get(const std::string& target) {
    auto reply = client_.request(Verb::kGet, target);
    EXPECT_TRUE(reply) << target;
    return reply ? *reply : net::HttpReply{};
  }
};

TEST_F(SystemTest, VersionModelsAndSpec) {
  const auto version = client_.call(protocol::kVersion);
  ASSERT_TRUE(version);
  EXPECT_EQ(version->version, RACKMARK_VERSION);
  EXPECT_EQ(version->controller_uuid.size(), 36u);
  EXPECT_GE(version->schema, 1);
  const auto models = client_.call(protocol::kModels);
  ASSERT_TRUE(models);
  EXPECT_EQ(models->items.size(), model_facts().size());
  const auto spec = client_.call(protocol::kSpecSchema);
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->fields.size(), spec_fields().size());
  EXPECT_TRUE(spec->definitions.contains("images_per_second"));
}

TEST_F(SystemTest, HealthAndReadiness) {
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_EQ(get("/readyz").status, 200);
}

// No file may be written beyond its first page, which every change to the write-ahead log is.
TEST_F(SystemTest, AControllerThatCanStoreNothingIsNotReady) {
  const auto becomes = [&](int status) {
    for (int i = 0; i < 300 && get("/readyz").status != status; ++i)
      std::this_thread::sleep_for(100ms);
    return get("/readyz");
  };
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit full{4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  EXPECT_FALSE(client_.call(protocol::kSubmitJob, {}, {}, small_spec()));
  const auto refused = becomes(503);
  const auto metrics = get("/metrics").body;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr("nothing can be stored: "));
  EXPECT_THAT(metrics, HasSubstr("rackmark_writes_failing 1"));
  EXPECT_EQ(becomes(200).status, 200);
  submit();
  EXPECT_THAT(get("/metrics").body, HasSubstr("rackmark_writes_failing 0"));
}

TEST_F(SystemTest, MetricsCountWhatHappens) {
  submit();
  ProtocolAgent agent(controller_.base(), "a");
  get("/api/v1/nothing-" + std::string(50, 'x'));
  const auto reply = get("/metrics");
  EXPECT_EQ(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  for (const char* line : {
           R"(rackmark_http_requests_total{method="POST",route="/api/v1/jobs",status="201"} 1)",
           R"(rackmark_http_requests_total{method="other",route="other",status="404"} 1)",
           R"(rackmark_http_request_seconds_count{route="/api/v1/jobs"} 1)",
           R"(rackmark_jobs{state="succeeded"} 0)",
           R"(rackmark_agents{state=")",
           "rackmark_database_bytes ",
           "rackmark_event_streams 0",
           "# TYPE rackmark_http_request_seconds histogram",
       }) {
    EXPECT_THAT(reply.body, HasSubstr(line));
  }
  EXPECT_THAT(reply.body, testing::Not(HasSubstr("nothing-x")));
}

TEST_F(SystemTest, ABackupIsAWholeDatabase) {
  submit();
  const auto made = client_.call(protocol::kCreateBackup);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(std::filesystem::path(made->file).parent_path(), controller_.dir() / "state");
  EXPECT_EQ(made->bytes, static_cast<std::int64_t>(std::filesystem::file_size(made->file)));
  const SystemClock clock;
  service::Reader copy(made->file, clock, {});
  EXPECT_EQ(copy.jobs({})->items.size(), 1U);
}

TEST_F(SystemTest, TheWebViewIsServed) {
  std::ofstream(controller_.dir() / "web/index.html") << "<!doctype html><title>Rackmark</title>";
  const auto page = get("/jobs/42");
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.body, HasSubstr("<title>Rackmark"));
  EXPECT_THAT(std::string(page.header("content-security-policy")), HasSubstr("frame-ancestors"));
  EXPECT_EQ(get("/api/v2/jobs").status, 404) << "the page does not answer for the API";
}

// RACKMARK_REGENERATE=1 writes the file anew; the change is then seen in the diff.
TEST_F(SystemTest, OpenapiIsAsAgreed) {
  const std::string file = RACKMARK_SOURCE_DIR "/tests/golden/api_v1.json";
  const auto got = nlohmann::json::parse(get("/api/v1/openapi.json").body);
  if (std::getenv("RACKMARK_REGENERATE") != nullptr) std::ofstream(file) << got.dump(1) << '\n';
  std::ifstream stream(file);
  const auto agreed = nlohmann::json::parse(stream, nullptr, false);
  EXPECT_EQ(nlohmann::json::diff(agreed, got).dump(1), "[]")
      << "run `RACKMARK_REGENERATE=1 api_test --gtest_filter=*OpenapiIsAsAgreed` if this is meant";
}

// Every path and method of the description is answered by a route.
TEST_F(SystemTest, OpenapiDescribesWhatIsServed) {
  const auto openapi = nlohmann::json::parse(get("/api/v1/openapi.json").body);
  std::size_t operations = 0;
  for (const auto& [path, methods] : openapi["paths"].items()) {
    for (const auto& [method, operation] : methods.items()) {
      ++operations;
      EXPECT_FALSE(operation["summary"].get<std::string>().empty()) << path;
      if (method != "get" || path == "/api/v1/events") continue;
      std::string concrete = path;
      if (const auto at = concrete.find("{id}"); at != std::string::npos) {
        concrete.replace(at, 4, "999");
      }
      const auto reply = get(concrete);
      EXPECT_EQ(reply.status, concrete == path ? 200 : 404) << concrete << reply.body;
    }
  }
  EXPECT_GE(operations, 20u);
  for (const auto& [name, schema] : openapi["components"]["schemas"].items()) {
    EXPECT_TRUE(schema.is_object()) << name;
  }
}

}  // namespace
}  // namespace rackmark::test
