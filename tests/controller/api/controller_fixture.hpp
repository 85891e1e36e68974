// The real controller, in this process, on a free port, with a state folder of its own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "common/net/http_client.hpp"
#include "common/protocol/agents.hpp"
#include "common/protocol/jobs.hpp"
#include "controller/app.hpp"

namespace rackmark::test {

class TestController {
 public:
  TestController();
  ~TestController();  // stops and removes the folder
  void stop();        // orderly, as SIGTERM would
  void start();       // again, on the same state and port

  int port() const { return port_; }
  net::BaseUrl base() const;
  std::filesystem::path dir() const { return dir_; }

 private:
  std::filesystem::path dir_;
  int port_ = 0;
  std::unique_ptr<ControllerApp> app_;
  std::thread thread_;
};

nlohmann::json small_spec();  // ResNet-50, batch 2, 20 measured steps

// Speaks the agent's protocol over HTTP as an agent would.
class ProtocolAgent {
 public:
  // Makes a token, enrols and syncs once without waiting.
  ProtocolAgent(const net::BaseUrl& base, const std::string& name);

  std::int64_t id() const { return enrolled_.agent_id; }
  const std::string& token() const { return enrolled_.agent_token; }
  net::BlockingClient& client() { return client_; }

  Result<protocol::SyncDown> sync(std::vector<protocol::ObservedRun> runs, bool wait);
  // Until a run is wanted; fails the test after 5 s.
  protocol::WantedRun wait_for_run();
  Result<protocol::EventReceipt> upload(std::int64_t run_id, std::int64_t seq,
                                        std::vector<nlohmann::json> events,
                                        std::vector<protocol::LogLine> logs = {});
  // The whole life of a run that succeeds: phases, steps of 100 ms with batch 2, summary.
  void carry_out(const protocol::WantedRun& run);

 private:
  protocol::ObservedRun observed(std::int64_t run_id, RunState state, std::int64_t last_seq);
  net::BlockingClient client_;
  protocol::Enrolled enrolled_;
};

class ControllerTest : public testing::Test {
 protected:
  protocol::JobView submit(const nlohmann::json& spec = small_spec());
  protocol::JobView show(std::int64_t job_id);

  TestController controller_;
  net::BlockingClient client_{controller_.base()};
};

}  // namespace rackmark::test
