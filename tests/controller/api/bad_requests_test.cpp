// tests/golden/bad_requests.json: requests that must be refused, with their exact answers. Every
// row is sent over a socket to the real controller; afterwards nothing may have been stored.
//
// A row: name, method, path, headers (Host and Connection are added unless given), body, or
// body_fill (a body of that many spaces); status and problem are what must come back. These words
// in headers, body and path stand for what the test made: $AGENT_TOKEN, $ENROL_TOKEN, $BIG (64 KiB
// of x); $TIME in a problem stands for any time. Jobs 1 (cancelled) and 2 (queued) and agent 1
// ("held") exist.
//
// RACKMARK_REGENERATE=1 writes the answers anew; the change is then seen in the diff.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>

#include "common/protocol/groups.hpp"
#include "tests/controller/api/controller_fixture.hpp"
#include "tests/support/raw_connection.hpp"

namespace rackmark::test {
namespace {

const char* const kFile = RACKMARK_SOURCE_DIR "/tests/golden/bad_requests.json";

nlohmann::ordered_json read_table() {
  std::ifstream stream(kFile);
  return nlohmann::ordered_json::parse(stream);
}

class BadRequestsTest : public ControllerTest {
 protected:
  void SetUp() override {
    agent_ = std::make_unique<ProtocolAgent>(controller_.base(), "held");
    ASSERT_EQ(agent_->id(), 1);
    auto nowhere = small_spec();
    nowhere["resources"] = {{"selector", {{"name", "nowhere"}}}};
    const auto first = client_.call(protocol::kSubmitJob, {}, {}, nowhere, net::kDefaultTimeout,
                                    {{"Idempotency-Key", "taken"}});
    ASSERT_TRUE(first) << first.error().message;
    ASSERT_TRUE(client_.call(protocol::kCancelJob, 1));
    ASSERT_EQ(submit(nowhere).id, 2);
    words_ = {{"$AGENT_TOKEN", agent_->token()},
              {"$ENROL_TOKEN", client_.call(protocol::kCreateEnrolmentToken)->token},
              {"$BIG", std::string(64u << 10, 'x')}};
  }

  std::string fill_in(std::string text) const {
    for (const auto& [word, value] : words_) {
      for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at)) {
        text.replace(at, word.size(), value);
        at += value.size();
      }
    }
    return text;
  }

  std::string to_bytes(const nlohmann::ordered_json& row) const {
    std::string body = row.value("body", "");
    if (row.contains("body_fill")) body.assign(row["body_fill"].get<std::size_t>(), ' ');
    body = fill_in(std::move(body));
    std::string text = row["method"].get<std::string>() + " " +
                       fill_in(row["path"].get<std::string>()) + " HTTP/1.1\r\n";
    const auto headers = row.value("headers", nlohmann::ordered_json::object());
    if (!headers.contains("Host")) text += "Host: localhost\r\n";
    for (const auto& [name, value] : headers.items()) {
      text += name + ": " + fill_in(value.get<std::string>()) + "\r\n";
    }
    if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return text + "Connection: close\r\n\r\n" + body;
  }

  // What a refused request may not change.
  nlohmann::json stored() {
    nlohmann::json out;
    protocol::JobQuery all;
    all.limit = 500;
    out["jobs"] = json::encode(*client_.call(protocol::kListJobs, {}, all));
    const auto agents = client_.call(protocol::kListAgents);
    for (const auto& agent : agents->items) {
      out["agents"].push_back({agent.id, agent.name});  // that a clone called is kept: its state
    }
    out["groups"] = client_.call(protocol::kListGroups)->items.size();
    out["results"] = client_.call(protocol::kListResults)->items.size();
    return out;
  }

  std::unique_ptr<ProtocolAgent> agent_;
  std::map<std::string, std::string> words_;
};

TEST_F(BadRequestsTest, EveryOneIsRefusedExactlySo) {
  auto table = read_table();
  const bool regenerate = std::getenv("RACKMARK_REGENERATE") != nullptr;
  const auto before = stored();
  std::set<int> statuses;
  for (auto& row : table) {
    const std::string name = row["name"];
    const std::string reply = talk(controller_.port(), to_bytes(row));
    const auto at = reply.find("\r\n\r\n");
    ASSERT_NE(at, std::string::npos) << name;
    // Times are of the day of the test.
    static const std::regex kTime(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)");
    const std::string text = std::regex_replace(reply.substr(at + 4), kTime, "$$TIME");
    const auto body = nlohmann::ordered_json::parse(text, nullptr, false);
    if (regenerate) row["status"] = status_of(reply), row["problem"] = body;
    EXPECT_EQ(status_of(reply), row["status"].get<int>()) << name << "\n" << reply;
    EXPECT_EQ(nlohmann::json(body), nlohmann::json(row["problem"])) << name;
    EXPECT_THAT(reply.substr(0, at), testing::HasSubstr("application/problem+json")) << name;
    EXPECT_EQ(body.value("status", 0), status_of(reply)) << name;
    statuses.insert(status_of(reply));
  }
  if (regenerate) std::ofstream(kFile) << table.dump(1) << '\n';
  EXPECT_GE(table.size(), 40u);
  EXPECT_THAT(statuses, testing::IsSupersetOf({400, 401, 403, 404, 405, 409, 413, 415, 422}));
  EXPECT_EQ(stored(), before) << "nothing of all this was stored";
}

}  // namespace
}  // namespace rackmark::test
